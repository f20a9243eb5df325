//! Forms in HTML, as far as server-rendered pages need it.

/// A form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Where it goes; empty is the page itself.
    pub action: String,
    /// It is sent by POST.
    pub post: bool,
    /// Inputs and buttons that have a name, in the page's order.
    pub fields: Vec<Field>,
    /// Buttons that send the form, in the page's order.
    pub buttons: Vec<Button>,
}

/// A button that sends its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Button {
    /// Its name, if it has one: then name and value go along when it is pressed.
    pub name: Option<String>,
    /// Its value.
    pub value: String,
    /// What a person reads on it.
    pub text: String,
}

/// An input or a button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value on the page.
    pub value: String,
    /// A button counts only when it is the one that is pressed, a box only when it is ticked.
    pub sent_by_itself: bool,
}

struct Tag<'a> {
    name: String,
    attributes: Vec<(String, String)>,
    rest: &'a str,
}

// === impl Form ===

impl Form {
    /// Whether the form has a field or button of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name)
    }

    fn take(&mut self, tag: &Tag<'_>) {
        let kind = tag.attribute("type").unwrap_or_default().to_ascii_lowercase();
        let button = (tag.name == "button" && kind != "button" && kind != "reset") || kind == "submit";
        let unticked = (kind == "checkbox" || kind == "radio") && tag.attribute("checked").is_none();
        let (name, value) = (tag.attribute("name"), tag.attribute("value").unwrap_or_default());
        if button {
            let text = if tag.name == "button" { tag.text() } else { value.clone() };
            self.buttons.push(Button { name: name.clone(), value: value.clone(), text });
        }
        if let Some(name) = name {
            let sent_by_itself = tag.name != "button" && !button && !unticked;
            self.fields.push(Field { name, value, sent_by_itself });
        }
    }

    /// What goes along when no button in particular is pressed.
    pub(super) fn successful(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.fields.iter().filter(|field| field.sent_by_itself).map(|field| (field.name.clone(), field.value.clone()))
    }
}

/// The forms of a page.
pub(super) fn parse(html: &str) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    let mut open = false;
    let mut rest = html;
    while let Some(tag) = next_tag(rest) {
        rest = tag.rest;
        match tag.name.as_str() {
            "form" => {
                open = true;
                let post = tag.attribute("method").is_some_and(|method| method.eq_ignore_ascii_case("post"));
                forms.push(Form { action: tag.attribute("action").unwrap_or_default(), post, ..Form::default() });
            }
            "/form" => open = false,
            "input" | "button" | "select" | "textarea" if open => {
                if let Some(form) = forms.last_mut() {
                    form.take(&tag);
                }
            }
            _ => {}
        }
    }
    forms
}

fn next_tag(html: &str) -> Option<Tag<'_>> {
    let mut html = html;
    loop {
        html = html.split_once('<')?.1;
        if let Some(comment) = html.strip_prefix("!--") {
            html = comment.split_once("-->")?.1;
            continue;
        }
        let end = html.find(|c: char| c.is_ascii_whitespace() || c == '>')?;
        let (name, mut rest) = html.split_at(end);
        let mut attributes = Vec::new();
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            if let Some(after) = rest.strip_prefix('>') {
                return Some(Tag { name: name.to_ascii_lowercase(), attributes, rest: after });
            }
            let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/'))?;
            let (key, after) = rest.split_at(end);
            rest = after.trim_start();
            let mut value = "";
            if let Some(after) = rest.strip_prefix('=') {
                let after = after.trim_start();
                (value, rest) = match after.chars().next()? {
                    quote @ ('"' | '\'') => after.get(1..)?.split_once(quote)?,
                    _ => after.split_at(after.find(|c: char| c.is_ascii_whitespace() || c == '>')?),
                };
            }
            if key.is_empty() {
                // A stray character: step over it, so that the loop always moves.
                rest = rest.get(rest.chars().next()?.len_utf8()..)?;
                continue;
            }
            attributes.push((key.to_ascii_lowercase(), unescape(value)));
        }
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let entity = after.split_once(';').and_then(|(name, tail)| Some((entity(name)?, tail)));
        match entity {
            Some((character, tail)) => {
                out.push(character);
                rest = tail;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out + rest
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

// === impl Tag ===

impl Tag<'_> {
    /// What a person reads between a button's tags.
    fn text(&self) -> String {
        let mut rest = self.rest.split_once("</button").map_or(self.rest, |(inside, _)| inside);
        let mut out = String::new();
        while let Some((before, tag)) = rest.split_once('<') {
            out.push_str(before);
            out.push(' ');
            rest = tag.split_once('>').map_or("", |(_, after)| after);
        }
        out.push_str(rest);
        unescape(&out.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    fn attribute(&self, name: &str) -> Option<String> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_buttons_and_entities() {
        let forms = parse(
            "<!-- <form action=/no> --><p>1 < 2</p><form method=POST action='/go?a=1&amp;b=2'>\
             <input type=hidden name=\"csrf\" value=\"a&quot;b&#x41;\"/><input type=checkbox name=tick>\
             <button name=login value=alice>Alice <small>in
 sre</small></button></form><form action=/other><input name=q></form>",
        );
        assert_eq!(forms.len(), 2);
        let first = &forms[0];
        assert!(first.post && first.action == "/go?a=1&b=2" && first.has("login") && first.has("tick"));
        assert_eq!(first.successful().collect::<Vec<_>>(), [("csrf".to_owned(), "a\"bA".to_owned())]);
        let button = Button { name: Some("login".into()), value: "alice".into(), text: "Alice in sre".into() };
        assert_eq!(first.buttons, [button]);
        assert!(!forms[1].post && forms[1].has("q"));
    }

    #[test]
    fn broken_markup_ends() {
        for broken in ["<form", "<form a", "<form a=", "<form a='", "<input name=\"x", "< <form =>", "<form \"\">"] {
            let _ = parse(broken);
        }
    }
}
