//! Pages that are generated and committed: what stands in `docs/` must be what the sources say. To write them anew:
//! `ICHOR_WRITE_DOCS=1 cargo test -p ichor-tests generated`.

use std::path::Path;

use syn::{Attribute, Expr, ExprLit, Fields, Item, ItemFn, ItemStruct, Lit, Meta};

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn compare(page: &str, fresh: &str) {
    let path = root().join("docs").join(page);
    #[expect(clippy::disallowed_methods, reason = "a switch for people, not for the tests")]
    if std::env::var_os("ICHOR_WRITE_DOCS").is_some() {
        std::fs::write(&path, fresh).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == fresh,
        "docs/{page} is not what the sources say; run ICHOR_WRITE_DOCS=1 cargo test -p ichor-tests generated"
    );
}

#[test]
fn generated_openapi_is_committed() {
    compare("openapi.json", &ichor_broker::http::openapi::document());
}

#[test]
fn generated_errors_page_is_committed() {
    use ichor_wire::problem::Code;
    let mut page = String::from(
        "# Errors\n\nEvery error of the API is a problem document (RFC 9457) with a stable `code`; `type` is \
         `urn:ichor:problem:<code>`. The client prints the sentence and the next step. This page is generated.\n",
    );
    for code in Code::ALL {
        page.push_str(&format!(
            "\n## {}\n\nHTTP {}: {}.\n\nNext step: {}.\n",
            code.as_str(),
            code.status(),
            code.title(),
            code.next_step()
        ));
    }
    compare("errors.md", &page);
}

#[test]
fn generated_config_reference_is_committed() {
    let files = sources();
    let mut page = String::from(
        "# Configuration\n\n`config.toml` in the broker's folder. Paths are relative to the folder; durations read as `30s`, \
         `15m`, `8h`. Unknown keys are refused. Secrets never stand here: they come from files or systemd credentials. This \
         page is generated from the source.\n",
    );
    let (_, root) = find(&files, "File");
    for field in &root.fields {
        let name = field.ident.as_ref().unwrap().to_string();
        let kind = type_name(&field.ty);
        let (heading, kind) = match kind.strip_prefix("Vec<") {
            Some(inner) => (format!("[[{name}]]"), inner.trim_end_matches('>').to_owned()),
            None => (format!("[{name}]"), kind),
        };
        page.push_str(&format!("\n## `{heading}`\n\n{}\n", docs(&field.attrs)));
        table(&mut page, find(&files, &kind));
    }
    page.push_str("\n## `clusters/<name>.toml`\n\nOne file a cluster, reloaded when it changes; `ichor-broker cluster add` writes it.\n");
    table(&mut page, find(&files, "ClusterFile"));
    compare("config.md", &page);
}

#[test]
fn every_provider_block_of_the_docs_loads() {
    let page = std::fs::read_to_string(root().join("docs/providers.md")).unwrap();
    let blocks: Vec<_> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 6);
    for block in blocks {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        for file in ["corp", "google", "entra", "okta", "dex"] {
            std::fs::write(folder.path().join("secrets").join(file), "a secret").unwrap();
        }
        std::fs::write(folder.path().join("groups.toml"), "\"117\" = [\"sre\"]\n").unwrap();
        let server = "[server]\npublic_url = \"http://127.0.0.1:8080\"\nlisten = \"127.0.0.1:8080\"\n";
        std::fs::write(folder.path().join("config.toml"), format!("{server}\n{block}")).unwrap();
        let loaded = ichor_broker::config::Folder::new(folder.path()).load();
        assert!(loaded.is_ok(), "{block}\n{:?}", loaded.err());
    }
}

/// What the sections of the configuration are read from, file by file: a name has its meaning where it stands.
fn sources() -> Vec<syn::File> {
    let folder = std::fs::read_dir(root().join("broker/src/config")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "rs"));
    files.map(|path| syn::parse_file(&std::fs::read_to_string(path).unwrap()).unwrap()).collect()
}

/// A section's keys, and the file that it stands in.
fn table(page: &mut String, (file, section): (&syn::File, &ItemStruct)) {
    let Fields::Named(fields) = &section.fields else { panic!("a section has named fields") };
    page.push_str("\n| key | default | meaning |\n|---|---|---|\n");
    for field in &fields.named {
        let name = field.ident.as_ref().unwrap();
        let values = choice(file, &field.ty);
        let default = default(file, field, values.first());
        let values: String = values.iter().map(|(name, docs)| format!("<br>`\"{name}\"`: {docs}")).collect();
        page.push_str(&format!("| `{name}` | {default} | {}{values} |\n", docs(&field.attrs)));
    }
}

/// The values of a field whose type is an enum of the file, as TOML has them, the default first.
fn choice(file: &syn::File, kind: &syn::Type) -> Vec<(String, String)> {
    let name = type_name(kind);
    let named = |item: &Item| match item {
        Item::Enum(item) if item.ident == name => Some(item.clone()),
        _ => None,
    };
    let Some(item) = file.items.iter().find_map(named) else { return Vec::new() };
    let mut variants: Vec<_> = item.variants.iter().collect();
    variants.sort_by_key(|variant| !variant.attrs.iter().any(|attribute| attribute.path().is_ident("default")));
    variants.iter().map(|variant| (kebab(&variant.ident.to_string()), docs(&variant.attrs))).collect()
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

fn find<'a>(files: &'a [syn::File], name: &str) -> (&'a syn::File, &'a ItemStruct) {
    let named = |item: &'a Item| match item {
        Item::Struct(item) if item.ident == name => Some(item),
        _ => None,
    };
    let found = files.iter().filter_map(|file| file.items.iter().find_map(named).map(|item| (file, item)));
    match found.collect::<Vec<_>>().as_slice() {
        [found] => *found,
        others => panic!("{} structs {name}", others.len()),
    }
}

fn docs(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(line).collect::<Vec<_>>().join(" ")
}

/// The default as the source has it: the body of the function that serde names, in TOML's spelling, or the type's own.
fn default(file: &syn::File, field: &syn::Field, first: Option<&(String, String)>) -> String {
    let serde = field.attrs.iter().find(|attribute| attribute.path().is_ident("serde"));
    let Some(Meta::List(list)) = serde.map(|attribute| &attribute.meta) else { return "required".into() };
    let text = list.tokens.to_string();
    let Some((_, function)) = text.split_once("default = \"") else {
        return match (first, type_name(&field.ty).split('<').next()) {
            (Some((name, _)), _) => format!("`\"{name}\"`"),
            (None, Some("Option" | "Vec" | "BTreeMap")) => "none".into(),
            (None, Some("bool")) => "`false`".into(),
            (None, kind) => panic!("the reference does not know the default of a {kind:?}"),
        };
    };
    let function = function.trim_end_matches('"');
    let named = |item: &Item| match item {
        Item::Fn(item) if item.sig.ident == function => Some(body(item)),
        _ => None,
    };
    file.items.iter().find_map(named).unwrap_or_else(|| panic!("no function {function}"))
}

fn body(function: &ItemFn) -> String {
    match function.block.stmts.first() {
        Some(syn::Stmt::Expr(expression, None)) => format!("`{}`", value(expression)),
        _ => panic!("a default is one expression"),
    }
}

fn value(expression: &Expr) -> String {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => format!("\"{}\"", text.value()),
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_digits().to_owned(),
        Expr::MethodCall(call) => value(&call.receiver),
        Expr::Array(array) => format!("[{}]", array.elems.iter().map(value).collect::<Vec<_>>().join(", ")),
        _ => panic!("a default is text, a number or a list of texts"),
    }
}

fn type_name(kind: &syn::Type) -> String {
    let syn::Type::Path(path) = kind else { panic!("a section is a named type") };
    let last = path.path.segments.last().unwrap();
    match &last.arguments {
        syn::PathArguments::AngleBracketed(inner) => match inner.args.first() {
            Some(syn::GenericArgument::Type(inner)) => format!("{}<{}>", last.ident, type_name(inner)),
            _ => panic!("a section's type has one argument"),
        },
        _ => last.ident.to_string(),
    }
}
