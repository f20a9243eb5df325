//! One simulated Talos node that accepts somebody else's CA: `cargo run -p ichor-standins --example node -- CA.pem HOSTNAME`.
//!
//! Prints one JSON line `{"endpoint", "ca"}` when it answers, and stays until it is ended. What is done to a real node can so
//! be done to it, and the answers compared.

use std::path::PathBuf;

use anyhow::Context as _;
use ichor_standins::node::{Node, NodeOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let accepted = arguments.next().map(PathBuf::from).context("name a file of accepted CAs")?;
    let hostname = arguments.next().context("name a host name")?;
    let hostname = hostname.to_str().context("the host name is not text")?;
    let options = NodeOptions { accepted_cas: std::fs::read_to_string(accepted)?, ..NodeOptions::new(hostname)? };
    let node = Node::start(options).await?;
    let ready = serde_json::json!({ "endpoint": node.endpoint(), "ca": node.ca_pem() });
    #[expect(clippy::print_stdout, reason = "whoever started this waits for the line")]
    {
        println!("{ready}");
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}
