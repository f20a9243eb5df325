//! The browser comes back to a port of this machine (RFC 8252 §7.3).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Event, LoginOptions, Pkce, TokenAnswer, exchange};
use crate::broker::{Broker, Metadata};
use crate::dpop::DpopKey;
use crate::error::Error;

/// Where the browser comes back to; the second is for machines without IPv4.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The only path that means anything.
const CALLBACK: &str = "/callback";

/// The largest request head that is read, in bytes.
const MAX_HEAD: usize = 16 * 1024;

const DONE: &str = "Done. You can close this window and go back to your terminal.";
const FAILED: &str = "The login did not succeed. Your terminal says why.";
const NOT_OURS: &str = "This is not the answer to the login that is waiting here.";

/// What a request to our port means.
enum Callback {
    Code(String),
    Refused(String),
    NotOurs,
}

pub(super) async fn login(
    broker: &Broker,
    metadata: &Metadata,
    key: &DpopKey,
    options: &LoginOptions,
) -> Result<TokenAnswer, Error> {
    let no_port = |error: std::io::Error| {
        Error::failed(format!("no port of this machine can be listened on: {error}"), "try `ichor login --no-browser`")
    };
    let (listener, redirect_uri) = listen(&LOOPBACK).await.map_err(no_port)?;
    let pkce = Pkce::new()?;
    let url = pkce.authorization_url(metadata, &redirect_uri, key, options);
    (options.on)(Event::Opening(url.clone()));
    (options.open)(&url);
    let code = wait(&listener, &pkce, &metadata.issuer).await?;
    exchange(broker, metadata, key, &pkce, &code, &redirect_uri).await
}

/// Listens on the first of these addresses that can be; and the URI of the redirect to there.
async fn listen(addresses: &[IpAddr]) -> std::io::Result<(TcpListener, String)> {
    let addresses: Vec<SocketAddr> = addresses.iter().map(|address| (*address, 0).into()).collect();
    let listener = TcpListener::bind(addresses.as_slice()).await?;
    let redirect_uri = format!("http://{}{CALLBACK}", listener.local_addr()?);
    Ok((listener, redirect_uri))
}

/// Waits for the answer to *this* login. Anything else that comes to the port, as from a page in the browser that guesses
/// ports, is turned away and changes nothing; a connection that says nothing holds up no other.
async fn wait(listener: &TcpListener, pkce: &Pkce, issuer: &str) -> Result<String, Error> {
    let mut open = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    open.spawn(read_target(stream));
                }
            }
            Some(read) = open.join_next() => {
                let Ok(Some((mut stream, target))) = read else { continue };
                match judge(&target, &pkce.state, issuer) {
                    Callback::NotOurs => answer(&mut stream, "400 Bad Request", NOT_OURS).await,
                    Callback::Code(code) => {
                        answer(&mut stream, "200 OK", DONE).await;
                        return Ok(code);
                    }
                    Callback::Refused(why) => {
                        answer(&mut stream, "200 OK", FAILED).await;
                        return Err(Error::Login(why));
                    }
                }
            }
        }
    }
}

async fn read_target(mut stream: TcpStream) -> Option<(TcpStream, String)> {
    let read = async {
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut head).await.ok()? == 0 || head.len() > MAX_HEAD {
                return None;
            }
        }
        Some(head)
    };
    let head = tokio::time::timeout(Duration::from_secs(10), read).await.ok()??;
    let line = String::from_utf8(head).ok()?.lines().next()?.to_owned();
    let target = line.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    Some((stream, target))
}

fn judge(target: &str, state: &str, issuer: &str) -> Callback {
    let Some((CALLBACK, query)) = target.split_once('?') else { return Callback::NotOurs };
    let mut given: HashMap<String, String> = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        // A parameter given twice has no meaning (RFC 6749 §3.1).
        if given.insert(name.into_owned(), value.into_owned()).is_some() {
            return Callback::NotOurs;
        }
    }
    let is = |name: &str, expected: &str| given.get(name).is_some_and(|value| value == expected);
    if !is("state", state) {
        return Callback::NotOurs;
    }
    // RFC 9207: an answer of another authorization server is not an answer.
    if !is("iss", issuer) {
        return Callback::Refused("the answer does not come from this broker".into());
    }
    match (given.remove("code"), given.remove("error")) {
        (Some(code), None) => Callback::Code(code),
        (_, Some(error)) => Callback::Refused(given.remove("error_description").unwrap_or(error)),
        (None, None) => Callback::NotOurs,
    }
}

async fn answer(stream: &mut TcpStream, status: &str, text: &str) {
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Ichor</title><p>{text}</p></html>"
    );
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\ncache-control: no-store\r\n\
         content-security-policy: default-src 'none'; frame-ancestors 'none'\r\nreferrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\n\r\n",
        body.len()
    );
    // The browser may be gone already; the login does not depend on it.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://broker.example";

    fn judged(target: &str) -> Result<String, Option<String>> {
        match judge(target, "the-state", ISSUER) {
            Callback::Code(code) => Ok(code),
            Callback::Refused(why) => Err(Some(why)),
            Callback::NotOurs => Err(None),
        }
    }

    #[test]
    fn only_the_answer_to_this_login_counts() {
        let iss = "iss=https%3A%2F%2Fbroker.example";
        assert_eq!(judged(&format!("/callback?code=abc&state=the-state&{iss}")), Ok("abc".into()));
        assert_eq!(judged(&format!("/callback?code=abc&state=other&{iss}")), Err(None));
        assert_eq!(judged(&format!("/callback?code=abc&{iss}")), Err(None));
        assert_eq!(judged(&format!("/elsewhere?code=abc&state=the-state&{iss}")), Err(None));
        assert_eq!(judged("/favicon.ico"), Err(None));
        assert_eq!(judged(&format!("/callback?code=abc&code=def&state=the-state&{iss}")), Err(None));
        assert_eq!(judged(&format!("/callback?state=the-state&{iss}")), Err(None));
    }

    #[test]
    fn an_answer_of_another_server_is_refused() {
        for iss in ["", "&iss=https%3A%2F%2Fevil.example", "&iss=https%3A%2F%2Fbroker.example%2F"] {
            assert!(matches!(judged(&format!("/callback?code=abc&state=the-state{iss}")), Err(Some(_))), "{iss}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_brokers_words() {
        let target = "/callback?error=access_denied&error_description=you%20said%20no&state=the-state&iss=https%3A%2F%2Fbroker.example";
        assert_eq!(judged(target), Err(Some("you said no".into())));
    }

    #[tokio::test]
    async fn where_ipv4_is_not_the_browser_comes_back_over_ipv6() {
        if std::net::TcpListener::bind((LOOPBACK[1], 0)).is_err() {
            return; // nor can it be tried here
        }
        // 192.0.2.1 is nobody's address (RFC 5737), so it cannot be listened on.
        let no_ipv4 = [Ipv4Addr::new(192, 0, 2, 1).into(), LOOPBACK[1]];
        let (listener, redirect_uri) = listen(&no_ipv4).await.unwrap();
        let at = listener.local_addr().unwrap();
        assert_eq!(redirect_uri, format!("http://[::1]:{}/callback", at.port()));
        let pkce = Pkce::new().unwrap();
        let browser = async {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let target = format!("/callback?code=abc&state={}&iss=https%3A%2F%2Fbroker.example", *pkce.state);
            stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: {at}\r\n\r\n").as_bytes()).await.unwrap();
            let mut page = String::new();
            stream.read_to_string(&mut page).await.unwrap();
            page
        };
        let (code, page) = tokio::join!(wait(&listener, &pkce, ISSUER), browser);
        assert_eq!(code.unwrap(), "abc");
        assert!(page.contains(DONE), "{page}");
    }
}
