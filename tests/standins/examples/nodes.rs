//! Two simulated Talos nodes to try a real `talosctl` on: `cargo run -p ichor-standins --example nodes -- DIR`.
//!
//! Writes `DIR/talosconfig` (contexts `reader` and `operator`, good for an hour), the CA, and the nodes' logs; prints one JSON
//! line when both nodes answer, and stays until Ctrl-C.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ichor_standins::authority::{Authority, Leaf};
use ichor_standins::clock;
use ichor_standins::node::{Node, NodeOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).context("name a folder to write to")?;
    std::fs::create_dir_all(&folder)?;
    let authority = Arc::new(Authority::new("talos")?);
    let first = start(&folder, &authority, "node-a", Ipv4Addr::new(127, 0, 0, 2)).await?;
    let second = start(&folder, &authority, "node-b", Ipv4Addr::new(127, 0, 0, 3)).await?;
    Node::join(&[&first, &second]);
    std::fs::write(folder.join("talosconfig"), talosconfig(&authority, &first)?)?;
    std::fs::write(folder.join("ca.crt"), authority.certificate())?;
    let ready = serde_json::json!({ "endpoints": [first.endpoint(), second.endpoint()] });
    #[expect(clippy::print_stdout, reason = "whoever started this waits for the line")]
    {
        println!("{ready}");
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}

async fn start(folder: &Path, authority: &Arc<Authority>, hostname: &str, address: Ipv4Addr) -> anyhow::Result<Node> {
    let options = NodeOptions {
        authority: Arc::clone(authority),
        address: (IpAddr::V4(address), 0).into(),
        log_file: Some(folder.join(format!("{hostname}.log"))),
        ..NodeOptions::new(hostname)?
    };
    Node::start(options).await
}

fn talosconfig(authority: &Authority, node: &Node) -> anyhow::Result<String> {
    let encode = |pem: &str| BASE64_STANDARD.encode(pem);
    let mut out = String::from("context: reader\ncontexts:\n");
    for role in ["reader", "operator"] {
        let roles = [format!("os:{role}"), "user:alice@example.test".into()];
        let leaf = Leaf::client(roles.iter().map(String::as_str), clock::system()());
        let certified = authority.issue(&leaf)?;
        out.push_str(&format!(
            "  {role}:\n    endpoints: [{}]\n    ca: {}\n    crt: {}\n    key: {}\n",
            node.endpoint(),
            encode(&node.ca_pem()),
            encode(&certified.certificate),
            encode(&certified.key),
        ));
    }
    Ok(out)
}
