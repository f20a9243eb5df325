//! Someone at a terminal.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};
use std::sync::{Arc, Mutex};

use ichor_client::cli::terminal::Terminal;
use ichor_client::cli::{Ask, Surroundings, run};
use ichor_client::{Clock, Environment};
use url::Url;

use crate::world::browse;

/// What `ichor` prints where someone types these lines, with a browser that confirms a login; the exit code is last. `asked` looks
/// at the process whenever it asks for a line.
pub fn type_into(
    environment: Environment,
    clock: Clock,
    arguments: &[&str],
    lines: &[&str],
    asked: impl Fn() + Send + 'static,
) -> (String, u8) {
    let lines = Mutex::new(lines.iter().map(|line| (*line).to_owned()).collect::<VecDeque<_>>());
    let ask = move || {
        asked();
        lines.lock().unwrap().pop_front().ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    };
    let printed = Printed::default();
    let code = start(environment, clock, arguments, Some(Box::new(ask)), [printed.clone(), printed.clone()]);
    (printed.text(), code)
}

/// What `ichor` prints by this clock where nobody sits at a terminal.
pub fn without_one(environment: Environment, clock: Clock, arguments: &[&str]) -> Output {
    let [out, err] = [Printed::default(), Printed::default()];
    let code = start(environment, clock, arguments, None, [out.clone(), err.clone()]);
    let status = ExitStatus::from_raw(i32::from(code) << 8);
    Output { status, stdout: out.text().into_bytes(), stderr: err.text().into_bytes() }
}

fn start(environment: Environment, clock: Clock, arguments: &[&str], ask: Option<Ask>, [out, err]: [Printed; 2]) -> u8 {
    let terminal = Terminal::new(Box::new(out), Box::new(err), false, false);
    let open = |url: &Url| {
        let url = url.to_string();
        std::thread::spawn(move || browse(&url));
    };
    let around = Surroundings { environment, clock, terminal, open: Arc::new(open), ask, host: "laptop".into() };
    run(["ichor"].iter().chain(arguments).map(OsString::from), around)
}

#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
