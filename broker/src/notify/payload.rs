//! A message in the formats that sinks understand, each with its own escape.

use ichor_wire::api::AuditEntry;
use serde_json::{Value, json};

use super::message::Message;

/// The entry as a webhook gets it. Texts are JSON strings; what shows them must escape them.
pub(super) fn webhook(entry: &AuditEntry, message: &Message, broker: &str) -> Value {
    json!({
        "type": format!("ichor.{}", entry.kind),
        "timestamp": entry.time,
        "data": { "broker": broker, "title": message.title, "next": message.next, "page": message.page, "entry": entry },
    })
}

/// The JSON of Slack's incoming webhooks: one text. What was recorded stands in code spans, where neither Slack nor what
/// understands its format reads any markup, mention or address.
pub(super) fn slack(message: &Message) -> Value {
    let mut text = format!("*{}*", entities(&message.title));
    for (label, value) in &message.lines {
        text.push_str(&format!("\n{label}: {}", code(value)));
    }
    if let Some(ticket) = &message.ticket {
        // what would end the link, or name it otherwise
        let ticket = ticket.as_str().replace('|', "%7C").replace('<', "%3C").replace('>', "%3E");
        text.push_str(&format!("\nticket: <{}>", entities(&ticket)));
    }
    if let Some(page) = &message.page {
        text.push_str(&format!("\npage: <{}>", entities(page.as_str())));
    }
    if let Some(next) = &message.next {
        text.push_str(&format!("\n→ {}", code(next)));
    }
    json!({ "text": text, "unfurl_links": false, "unfurl_media": false })
}

/// Text that Slack shows as it stands.
fn entities(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A code span, which nothing within ends.
fn code(text: &str) -> String {
    format!("`{}`", entities(&text.replace('`', "'")))
}

/// The JSON of Teams' webhooks: a card. What was recorded stands in text runs, which know no Markdown; text blocks, which do,
/// have our words alone.
pub(super) fn teams(message: &Message) -> Value {
    let run = |text: &str| json!({ "type": "TextRun", "text": text });
    let rich = |label: &str, value: &str| {
        let label = json!({ "type": "TextRun", "text": format!("{label}: "), "weight": "Bolder" });
        json!({ "type": "RichTextBlock", "spacing": "Small", "inlines": [label, run(value)] })
    };
    let mut body =
        vec![json!({ "type": "TextBlock", "text": message.title, "weight": "Bolder", "size": "Medium", "wrap": true })];
    body.extend(message.lines.iter().map(|(label, value)| rich(label, value)));
    body.extend(message.next.iter().map(|next| rich("next", next)));
    let links = [("Request", &message.page), ("Ticket", &message.ticket)];
    let open = links.into_iter().filter_map(|(title, url)| {
        url.as_ref().map(|url| json!({ "type": "Action.OpenUrl", "title": title, "url": url.as_str() }))
    });
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": body,
                "actions": open.collect::<Vec<_>>(),
            },
        }],
    })
}

/// Plain text: a line each.
pub(super) fn text(message: &Message) -> String {
    let mut text = format!("{}\r\n\r\n", message.title);
    let ticket = message.ticket.iter().map(|url| ("ticket", url.as_str()));
    let next = message.next.iter().map(|next| ("next", next.as_str()));
    let page = message.page.iter().map(|url| ("page", url.as_str()));
    let lines = message.lines.iter().map(|(label, value)| (label.as_str(), value.as_str()));
    for (label, value) in lines.chain(ticket).chain(page).chain(next) {
        text.push_str(&format!("{label}: {value}\r\n"));
    }
    text
}
