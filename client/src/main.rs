//! `ichor`: the client. Everything is in the library; here the process is asked for what it knows.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use ichor_client::cli::terminal::Terminal;
use ichor_client::cli::{Surroundings, run};
use ichor_client::{Clock, Environment};

fn main() -> ExitCode {
    let environment = Environment::read();
    let interactive = std::io::stderr().is_terminal();
    let colour = std::io::stdout().is_terminal() && interactive && !environment.no_color;
    let terminal = Terminal::new(Box::new(std::io::stdout()), Box::new(std::io::stderr()), interactive, colour);
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let open = Arc::new(|url: &url::Url| {
        // Its output would land in the middle of ours, and a browser that does not open is not the end: the address is
        // printed as well.
        let _ = open::that_detached(url.as_str());
    });
    let around = Surroundings { environment, clock: Clock::system(), terminal, open, host };
    ExitCode::from(run(std::env::args_os(), around))
}
