//! The sheet of a share for paper.

use anyhow::Context;
use ichor_wire::kit::Facts;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use zeroize::Zeroizing;

use crate::custody::MadeShare;

/// The sheet: whose share it is, the share as text in six rows and as a QR code, and what to do with it. It is the secret itself.
///
/// # Errors
/// When the share's text does not fit a code, which it always does.
pub(super) fn sheet(facts: &Facts, share: &MadeShare) -> anyhow::Result<Zeroizing<String>> {
    let text = std::str::from_utf8(&share.body).context("the share is not text")?;
    let code = QrCode::with_error_correction_level(text, EcLevel::Q).context("the share fits no QR code")?;
    let code = Zeroizing::new(code.render::<Dense1x2>().quiet_zone(true).build());
    let (head, groups) = text
        .split_once("-")
        .and_then(|(one, rest)| rest.split_once('-').map(|(two, rest)| ((one, two), rest)))
        .context("the share has no groups")?;
    let mut rows = Zeroizing::new(String::with_capacity(256));
    let groups: Vec<&str> = groups.split('-').collect();
    for (row, three) in groups.chunks(3).enumerate() {
        rows.push_str(&format!("    {:>2}  ", 3 * row + 1));
        rows.push_str(&three.join("  "));
        rows.push('\n');
    }
    let Facts { number, cluster, threshold, shares, until, .. } = facts;
    Ok(Zeroizing::new(format!(
        "ICHOR BREAK-GLASS KIT {number} · cluster {cluster} · share {} of {} · {}\n\
         \n\
         {threshold} of {} such shares open the kit until {until:.0}. Keep this sheet where you alone reach it, away from the kit's file\n\
         and from other shares. Tell nobody what is on it before you have made sure of the emergency yourself.\n\
         \n\
         {}-{}\n\
         {}\
         \n\
         The last character of each group is a check: `ichor kit open` names the first group that is mistyped.\n\
         0 is zero and 1 is one; there is no letter O, I, L or U.\n\
         \n\
         {}\n",
        share.index,
        shares.len(),
        share.holder,
        shares.len(),
        head.0,
        head.1,
        *rows,
        *code
    )))
}

#[cfg(test)]
mod tests {
    use ichor_wire::kit::{KitFile, Share};

    use super::*;

    #[test]
    fn what_is_printed_can_be_typed_back() {
        let file = KitFile::parse(include_str!("../../../../tests/vectors/kit/v1/kit.toml")).unwrap();
        let text = include_str!("../../../../tests/vectors/kit/v1/shares.txt").lines().nth(1).unwrap();
        let body = Zeroizing::new(text.as_bytes().to_vec());
        let share = MadeShare { index: 2, holder: "holder-2".into(), recipient: None, body };
        let sheet = sheet(file.unverified_facts(), &share).unwrap();
        // the whole sheet, and its rows as they are printed, numbers and all
        let rows: Vec<_> = sheet.lines().skip_while(|line| !line.starts_with("ICHOR-KIT1")).take(7).collect();
        assert!(rows.last().is_some_and(|row| row.trim_start().starts_with("16 ")), "{rows:?}");
        for typed in [sheet.to_string(), rows.join("\n")] {
            assert_eq!(*Share::parse(&typed).unwrap().to_text(), text, "{typed}");
        }
        assert!(sheet.contains("kit 7") || sheet.contains("KIT 7"));
        assert!(sheet.contains('█'), "a QR code");
    }
}
