//! `break-glass`: what asking, listing, approving and using cost while ever more requests of others are open, and whether
//! plain certificates notice.
//!
//! The page for approvers too, of one who could decide everything and of one who could decide nothing. With `--postgres` on that database as well.
//!
//! Requests are opened as people do it, over HTTPS and each by a session of its own: the broker lets one person have five. At
//! every size the same acts are timed, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ichor_client::break_glass::{self, End, Vote};
use ichor_client::{Session, Wish, certificate};
use ichor_standins::browser::Browser;
use ichor_standins::provider::Person;
use ichor_wire::api::BreakGlassAsk;
use tokio::time::Instant;

use crate::Settings;
use crate::meter::{Times, millis};
use crate::report::{Goal, Report};
use crate::world::World;

/// Who may ask for what, and who approves.
const POLICIES: &str = "@id(\"ask\") @approvals(\"1\") @max_ttl(\"30m\") @wait(\"8h\")\n\
    permit (principal in Group::\"corp/sre\", action in [Action::\"break-glass:request\", Action::\"hold:os:admin\"], resource);\n\
    @id(\"approve\")\n\
    permit (principal in Group::\"corp/leads\", action == Action::\"break-glass:approve\", resource);\n\
    @id(\"approve-operators\")\n\
    permit (principal in Group::\"corp/juniors\", action == Action::\"break-glass:approve\", resource)\n\
    when { context.roles.contains(\"os:operator\") };\n";

/// Open requests of others at each step.
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// What one person may have open.
const EACH: usize = 5;
/// Each act at each size.
const TIMES: usize = 100;
/// Sessions and requests under way at once while the crowd comes.
const AT_ONCE: usize = 16;
/// Requests on a page where no limit is named.
const PAGE: usize = 100;
/// How long the page of someone may take who could decide none of the largest number: all of them are looked through.
const NONE_OF_ALL: f64 = 1000.0;
/// How much slower the last size may be than the first.
const SLOWER: f64 = 1.5;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Ask,
    List,
    Show,
    Approve,
    Use,
    Cancel,
    Plain,
    Page,
    PageOfNone,
}

// === impl Act ===

impl Act {
    fn said(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::List => "list a page",
            Self::Show => "show",
            Self::Approve => "approve",
            Self::Use => "use",
            Self::Cancel => "cancel",
            Self::Plain => "plain certificate",
            Self::Page => "the approvers' page",
            Self::PageOfNone => "the page of one who could decide none",
        }
    }
}

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("break-glass");
    sweep(settings, None, &mut report).await?;
    if let Some(url) = &settings.postgres {
        crate::postgres::empty(url).await?;
        sweep(settings, Some(url), &mut report).await?;
    }
    Ok(report)
}

async fn sweep(settings: &Settings, postgres: Option<&str>, report: &mut Report) -> anyhow::Result<()> {
    let on = postgres.map_or("SQLite", |_| "Postgres");
    let most = SIZES.iter().copied().max().unwrap_or_default();
    report.note(format!("{TIMES} of each act at each size, one after the other, over HTTPS; {on}, durable commits"));
    let crowd = (0..most.div_ceil(EACH)).map(|number| Person::new(&format!("p{number}"), "One of many", ["sre"]));
    let people = crowd.chain([
        Person::new("alice", "Alice Example", ["sre"]),
        Person::new("lena", "Lena Lead", ["leads"]),
        Person::new("june", "June Junior", ["juniors"]),
    ]);
    let world = World::start_with_people(settings, people.collect(), postgres, async |dir| {
        Ok(std::fs::write(dir.join("policies/break-glass.cedar"), POLICIES)?)
    })
    .await?;
    let world = Arc::new(world);
    let (alice, lena) = (log_in(&world, "alice").await?, log_in(&world, "lena").await?);

    let mut first = BTreeMap::new();
    let mut open = 0;
    for size in SIZES {
        fill(&world, open, size).await?;
        open = size;
        let mut times = BTreeMap::new();
        for _ in 0..TIMES {
            once(&alice, &lena, &mut times).await?;
        }
        for (name, act) in [("lena", Act::Page), ("june", Act::PageOfNone)] {
            pages(&world, name, act, &mut times).await?;
        }
        for (act, mut times) in times {
            let (p50, p99) = (times.percentile(0.5), times.percentile(0.99));
            report.add(format!("{on}, {size} open: {}, p50", act.said()), millis(p50), "ms");
            report.add(format!("{on}, {size} open: {}, p99", act.said()), millis(p99), "ms");
            if act == Act::PageOfNone {
                if size == most {
                    let name = format!("{on}, {size} open: {}, p50", act.said());
                    report.hold(name, millis(p50), "ms", Goal::AtMost(NONE_OF_ALL));
                }
                continue;
            }
            // a page that is not full yet costs less for its rows, not for what else is open
            if matches!(act, Act::List | Act::Page) && size < PAGE {
                continue;
            }
            let (least, first) = *first.entry(act).or_insert((size, p50));
            if size == most {
                let name = format!("{on}, {}: that p50 over the one at {least} open", act.said());
                report.hold(name, p50.as_secs_f64() / first.as_secs_f64(), "×", Goal::AtMost(SLOWER));
            }
        }
    }
    report.add(format!("{on}: the broker's memory at the end"), f64::from(world.broker_memory()?) / 1024.0, "MiB");
    Ok(())
}

/// The page for approvers, in a browser that has just signed in.
async fn pages(world: &World, name: &str, act: Act, times: &mut BTreeMap<Act, Times>) -> anyhow::Result<()> {
    let browser = Browser::new(&[&world.tls_ca])?;
    ichor_tests::sign_in(&browser, &world.url.join("/break-glass/sign-in?to=list&provider=corp")?, name).await?;
    let page = world.url.join("/break-glass")?;
    for _ in 0..TIMES {
        let began = Instant::now();
        let shown = browser.open(page.as_str()).await?;
        times.entry(act).or_default().push(began.elapsed());
        let waits = shown.body.contains("INC-4242");
        ensure!(waits == (act == Act::Page), "{name} sees on the page: {}", shown.body);
    }
    Ok(())
}

/// Each act once, on requests of Alice's own; none of them stays open.
async fn once(alice: &Session, lena: &Session, times: &mut BTreeMap<Act, Times>) -> anyhow::Result<()> {
    let mut began = Instant::now();
    let mut done = |act: Act| {
        times.entry(act).or_default().push(began.elapsed());
        began = Instant::now();
    };
    let asked = break_glass::ask(alice, &wanted()).await?;
    done(Act::Ask);
    let (page, _) = break_glass::list(lena, &[("state", "pending".into())]).await?;
    done(Act::List);
    ensure!(page.iter().any(|glass| glass.answer.id == asked.answer.id), "the newest request is not on the first page");
    let seen = break_glass::show(lena, asked.answer.id).await?;
    done(Act::Show);
    let approved = break_glass::vote(lena, &seen, Vote::Approve, None).await?;
    done(Act::Approve);
    break_glass::certificate(alice, &approved).await?;
    done(Act::Use);
    let other = break_glass::ask(alice, &wanted()).await?;
    done(Act::Ask);
    break_glass::end(alice, other.answer.id, End::Cancel, None).await?;
    done(Act::Cancel);
    certificate(alice, &Wish { cluster: "prod".into(), ..Wish::default() }).await?;
    done(Act::Plain);
    Ok(())
}

/// Opens requests until there are `size` of the crowd's.
async fn fill(world: &Arc<World>, open: usize, size: usize) -> anyhow::Result<()> {
    let people = open.div_ceil(EACH)..size.div_ceil(EACH);
    let logins = stream::iter(people).map(|number| {
        let world = Arc::clone(world);
        async move {
            let session = log_in(&world, &format!("p{number}")).await?;
            for _ in 0..EACH {
                break_glass::ask(&session, &wanted()).await?;
            }
            anyhow::Ok(())
        }
    });
    logins.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(())
}

async fn log_in(world: &World, name: &str) -> anyhow::Result<Session> {
    let browser = Browser::new(&[&world.tls_ca])?;
    ichor_tests::log_in(&world.client(), &browser, name, |_| {})
        .await
        .with_context(|| format!("{name} could not log in"))
}

fn wanted() -> BreakGlassAsk {
    BreakGlassAsk {
        cluster: "prod".into(),
        roles: vec!["os:admin".into()],
        ttl: Some(900),
        reason: "INC-4242: etcd lost its quorum".into(),
        nodes: Vec::new(),
        ticket: None,
        self_service: false,
    }
}
