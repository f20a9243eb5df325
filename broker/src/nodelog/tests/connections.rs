//! Who may send, and how much room a sender takes.

use tokio::net::TcpSocket;

use super::*;

#[tokio::test]
async fn a_slow_sender_holds_nobody_up() {
    let bench = Bench::new([], 9, 100).await;
    let line = call_line("Version", &roles(GRANT));
    let mut slow = TcpStream::connect(bench.tcp).await.unwrap();
    slow.write_all(&line[..40]).await.unwrap();
    bench.send(&line).await;
    bench.calls(1).await;
    slow.write_all(&line[40..]).await.unwrap();
    bench.calls(2).await;
}

#[tokio::test]
async fn strangers_are_closed_and_connections_are_bounded() {
    let bench = Bench::new([], 3, 100).await;
    let stranger = TcpSocket::new_v4().unwrap();
    stranger.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let mut stranger = stranger.connect(bench.tcp).await.unwrap();
    assert!(is_closed(&mut stranger).await, "another address than the sources'");

    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(TcpStream::connect(bench.tcp).await.unwrap());
    }
    let mut closed = 0;
    for stream in &mut held[3..] {
        closed += usize::from(is_closed(stream).await);
    }
    assert_eq!(closed, 47, "three places, and no more");
    held[0].write_all(&call_line("Version", &roles(GRANT))).await.unwrap();
    bench.calls(1).await;
    drop(held);
    // their places are free again
    loop {
        let mut again = TcpStream::connect(bench.tcp).await.unwrap();
        if again.write_all(&call_line("Version", &roles(GRANT))).await.is_ok() && !is_closed_soon(&mut again).await {
            break;
        }
    }
    bench.calls(2).await;
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    use tokio::io::AsyncReadExt;
    // an end, or a reset
    !matches!(stream.read(&mut [0; 1]).await, Ok(1))
}

async fn is_closed_soon(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(50), is_closed(stream)).await.is_ok()
}

#[tokio::test]
async fn one_address_takes_no_more_than_its_places() {
    let bench = Bench::new([], 100, 100).await;
    let mut held = Vec::new();
    for _ in 0..9 {
        held.push(TcpStream::connect(bench.tcp).await.unwrap());
    }
    assert!(is_closed(held.last_mut().unwrap()).await, "eight of one address");
}
