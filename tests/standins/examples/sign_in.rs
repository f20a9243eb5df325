//! A browser without a window, for trying things by hand: `sign_in URL BUTTON…` opens the URL and presses one button after the
//! other, each named by a text on it, as `sign_in "$url" Uma continue`. Prints where it ended.

use anyhow::Context as _;
use ichor_standins::browser::Browser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("name a URL, and the buttons to press")?;
    let browser = Browser::new(&[])?;
    let mut page = browser.open(&url).await?;
    for button in arguments {
        page = browser.press(&page, &button).await?;
    }
    #[expect(clippy::print_stdout, reason = "this is what it is for")]
    {
        println!("{} {}", page.status.as_u16(), page.url);
    }
    anyhow::ensure!(page.status.is_success(), "the last page is no success");
    Ok(())
}
