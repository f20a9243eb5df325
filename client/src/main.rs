//! `ichor`: the client. Everything is in the library; here the process is asked for what it knows.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use ichor_client::cli::terminal::Terminal;
use ichor_client::cli::{Ask, Surroundings, run};
use ichor_client::{Clock, Environment, browser};

fn main() -> ExitCode {
    let environment = Environment::read();
    let interactive = std::io::stderr().is_terminal();
    let colour = std::io::stdout().is_terminal() && interactive && !environment.no_color;
    let terminal = Terminal::new(Box::new(std::io::stdout()), Box::new(std::io::stderr()), interactive, colour);
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let browser = environment.browser.clone();
    let open = Arc::new(move |url: &url::Url| {
        browser::open(browser.as_deref(), url);
    });
    let ask = (interactive && std::io::stdin().is_terminal()).then_some(Box::new(typed) as Ask);
    let around = Surroundings { environment, clock: Clock::system(), terminal, open, ask, host };
    ExitCode::from(run(std::env::args_os(), around))
}

fn typed() -> std::io::Result<String> {
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}
