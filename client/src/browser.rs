//! A browser on this machine.

use std::process::{Command, Stdio};

use url::Url;

/// Opens the page and returns at once. `browser` is the variable `BROWSER`; without it the desktop's own choice is taken.
///
/// `BROWSER` is a list of commands with colons between them, tried in turn until one can be run and ends well. In a command
/// `%s` stands for the address, `%c` for a colon and `%%` for a percent sign; where there is no `%s` the address comes last.
/// No shell reads it. A browser that does not open is not the end: the address is printed as well. Nor is its output shown,
/// which would land in the middle of ours; so a browser in the terminal is of no use here.
///
/// Only `http` and `https` are opened: with any other scheme the desktop would start whatever program claims it.
/// Whether anything was started.
pub fn open(browser: Option<&str>, url: &Url) -> bool {
    if !matches!(url.scheme(), "http" | "https") {
        return false;
    }
    let Some(browser) = browser else {
        return open::that_detached(url.as_str()).is_ok();
    };
    let commands = commands(browser, url);
    // A browser may stay in the foreground for as long as it is used.
    std::thread::spawn(move || commands.iter().any(|command| runs(command)));
    true
}

fn runs(command: &[String]) -> bool {
    let Some((program, arguments)) = command.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Every command in `BROWSER` with its arguments.
fn commands(browser: &str, url: &Url) -> Vec<Vec<String>> {
    let whole = |command: &str| {
        let mut words: Vec<String> = command.split_whitespace().map(|word| filled(word, url)).collect();
        if !words.is_empty() && !names_url(command) {
            words.push(url.to_string());
        }
        words
    };
    browser.split(':').map(whole).filter(|words| !words.is_empty()).collect()
}

fn names_url(command: &str) -> bool {
    command.replace("%%", "").contains("%s")
}

/// The word with its `%` taken for what they mean; the address itself is not read again.
fn filled(word: &str, url: &Url) -> String {
    let mut filled = String::new();
    let mut letters = word.chars();
    while let Some(letter) = letters.next() {
        match (letter, letters.as_str().chars().next()) {
            ('%', Some('s')) => filled.push_str(url.as_str()),
            ('%', Some('c')) => filled.push(':'),
            ('%', Some('%')) => filled.push('%'),
            _ => {
                filled.push(letter);
                continue;
            }
        }
        letters.next();
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(browser: &str) -> Vec<Vec<String>> {
        commands(browser, &"https://b/a?x=%73&y=%25s".parse().unwrap())
    }

    #[test]
    fn a_list_of_commands_reads_as_the_convention_has_it() {
        let url = "https://b/a?x=%73&y=%25s";
        assert_eq!(read("firefox"), [["firefox", url]]);
        assert_eq!(read("w3m: firefox --new-window  %s"), [vec!["w3m", url], vec!["firefox", "--new-window", url]]);
        assert_eq!(read("a --url=%s --then"), [["a", &format!("--url={url}"), "--then"]]);
        assert_eq!(read("a %c %%s 5%"), [["a", ":", "%s", "5%", url]]);
        assert!(read(" : :").is_empty());
    }

    #[test]
    fn nothing_but_a_page_is_opened() {
        for (url, opened) in [
            ("https://b/", true),
            ("http://127.0.0.1:1/", true),
            ("file:///etc/passwd", false),
            ("javascript:alert(1)", false),
            ("ssh://host", false),
        ] {
            assert_eq!(open(Some("true"), &url.parse().unwrap()), opened, "{url}");
        }
    }

    #[test]
    fn no_shell_reads_it() {
        assert_eq!(read("a;b $(c) '%s'")[0], ["a;b", "$(c)", "'https://b/a?x=%73&y=%25s'"]);
    }
}
