//! A throwaway OpenID provider for trying a broker by hand: `provider REDIRECT_URI` prints its issuer and stays until it is
//! ended. The broker names the public client `ichor`.

use anyhow::Context as _;
use ichor_standins::provider::{Client, Provider, ProviderOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    ichor_standins::install_tls_provider();
    let redirect = std::env::args().nth(1).context("name the broker's redirect URI, …/oauth/callback/ALIAS")?;
    let clients = vec![Client::public("ichor", [redirect.as_str()])];
    let provider = Provider::start(ProviderOptions { clients, ..ProviderOptions::default() }).await?;
    #[expect(clippy::print_stdout, reason = "whoever started this waits for the line")]
    {
        println!("{}", provider.issuer());
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}
