//! Nodes' logs, by the keys of `[nodelog]` and `[[nodelog_source]]`.

use std::time::Duration;

use ichor_broker::store::{CallFilter, StoredCall};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::plain::{Plain, soon};

/// A line of a call that no grant explains.
fn line(method: &str) -> String {
    let message = format!(
        "machined 2026/11/22 12:00:00 OK [/machine.MachineService/{method}] 1ms unary Success (talos-role=os:reader)"
    );
    format!("{{\"msg\":\"{message}\",\"talos-service\":\"machined\",\"talos-time\":\"2026-11-22T12:00:00Z\"}}\n")
}

/// The calls kept, once there are so many.
async fn calls(broker: &Plain, count: usize) -> anyhow::Result<Vec<StoredCall>> {
    let store = broker.running.store();
    soon(async {
        loop {
            let found = store.calls(&CallFilter::default(), None, 100).await.map_err(std::io::Error::other)?;
            if found.len() >= count {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_taken_where_and_from_whom_it_is_configured() -> anyhow::Result<()> {
    let listens = "\n[nodelog]\ntcp = \"127.0.0.1:0\"\nudp = \"127.0.0.1:0\"\nheartbeat = \"off\"\n";
    for (source, node) in [("from = [\"127.0.0.0/8\"]", "127.0.0.1"), ("nodes = { \"127.0.0.1\" = \"cp-1\" }", "cp-1")]
    {
        let source = format!("{listens}\n[[nodelog_source]]\ncluster = \"lab\"\n{source}\n");
        let broker = Plain::start(&[], &source).await?;
        let (Some(tcp), Some(udp)) = broker.running.node_addresses() else { anyhow::bail!("it does not listen") };
        TcpStream::connect(tcp).await?.write_all(line("Reboot").as_bytes()).await?;
        calls(&broker, 1).await?;
        UdpSocket::bind("127.0.0.1:0").await?.send_to(line("Version").as_bytes(), udp).await?;
        for stored in calls(&broker, 2).await? {
            assert_eq!((stored.call.cluster.as_str(), stored.call.node.as_str()), ("lab", node));
        }
    }
    let stranger = format!("{listens}\n[[nodelog_source]]\ncluster = \"lab\"\nfrom = [\"10.0.0.0/8\"]\n");
    let broker = Plain::start(&[], &stranger).await?;
    let mut stream = TcpStream::connect(broker.running.node_addresses().0.unwrap()).await?;
    assert!(soon(stream.read_u8()).await.is_err(), "it is closed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_take_no_more_connections_and_calls_than_configured() -> anyhow::Result<()> {
    let section = "\n[nodelog]\ntcp = \"127.0.0.1:0\"\nconnections = 1\nmax_calls = 2\nheartbeat = \"off\"\n\n\
                   [[nodelog_source]]\ncluster = \"lab\"\nfrom = [\"127.0.0.1\"]\n";
    let broker = Plain::start(&[], section).await?;
    let tcp = broker.running.node_addresses().0.unwrap();
    let mut first = TcpStream::connect(tcp).await?;
    first.write_all(line("Reboot").as_bytes()).await?;
    calls(&broker, 1).await?;
    let mut second = TcpStream::connect(tcp).await?;
    assert!(soon(second.read_u8()).await.is_err(), "there is one place");
    for method in ["Version", "Hostname"] {
        first.write_all(line(method).as_bytes()).await?;
    }
    let kept = soon(async {
        loop {
            let kept = calls(&broker, 2).await.map_err(std::io::Error::other)?;
            if kept.iter().all(|stored| !stored.call.method.ends_with("/Reboot")) {
                return Ok(kept);
            }
        }
    })
    .await?;
    assert_eq!(kept.len(), 2, "the oldest went");
    Ok(())
}
