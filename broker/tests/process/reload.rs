//! SIGHUP and `ichor-broker reload`.

use std::process::Command;
use std::time::Duration;

use ichor_wire::api::AuditEntry;

use super::{Host, run};

/// Nothing takes the broker so long: it stands still.
const STUCK: Duration = Duration::from_secs(60);

async fn reloads(host: &Host) -> anyhow::Result<Vec<AuditEntry>> {
    Ok(host.log().await?.into_iter().filter(|entry| entry.kind == "reload").collect())
}

/// Returns once there are so many entries about reloads.
async fn until(host: &Host, count: usize) -> anyhow::Result<Vec<AuditEntry>> {
    let looking = async {
        loop {
            let found = reloads(host).await?;
            if found.len() >= count {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(STUCK, looking).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_and_a_command_load_anew() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.start()?;
    let file = host.dir.join("policies/all.cedar");
    let good = std::fs::read_to_string(&file)?;
    std::fs::write(&file, "permit (")?;
    // found by itself; what was tried and refused is not tried again without being asked
    assert!(until(&host, 1).await?[0].detail["message"].starts_with("policies refused"));

    let pid = host.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status()?.success());
    until(&host, 2).await?;
    let error = run(&["reload", "--dir", &host.dir.to_string_lossy()]).unwrap_err().to_string();
    assert!(error.contains("FAIL  policies: "), "{error}");
    let entries = reloads(&host).await?;
    assert_eq!(entries.len(), 3);
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())?;
    let user = user.map_or_else(|| format!("uid {}", nix::unistd::getuid()), |user| user.name);
    assert_eq!(entries[2].detail["os_user"], user, "a command is somebody's");
    assert!(!entries[1].detail.contains_key("os_user"), "a signal does not tell whose it is");

    std::fs::write(&file, good.replace("read\"", "readers\""))?;
    let said = run(&["reload", "--dir", &host.dir.to_string_lossy()])?;
    assert!(said.contains("ok    policies"), "{said}");
    let entries = reloads(&host).await?;
    assert_eq!(entries[3].detail["message"], "policies loaded");
    assert_eq!(entries[3].detail["os_user"], user);
    Ok(())
}
