//! A throwaway OpenBao server: prints `{"url","ca"}`, and stays until it is ended. Its token is `root`; role id `role` with secret
//! id `secret` logs in at `auth/approle`.

use ichor_standins::openbao::{OpenBao, OpenBaoOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let bao = OpenBao::start(OpenBaoOptions { wrapping_key_bits: 4096, ..OpenBaoOptions::default() }).await?;
    bao.add_approle("role", "secret");
    #[expect(clippy::print_stdout, reason = "whoever started this waits for the line")]
    {
        println!("{}", serde_json::json!({ "url": bao.url(), "ca": bao.ca_pem() }));
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}
