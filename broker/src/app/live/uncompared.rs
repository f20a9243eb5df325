//! CAs that cannot be held against the audit log for now.

use super::Live;
use super::reload::Reload;
use crate::app::issuers;
use crate::mint::Issuers;
use crate::readiness::Check;
use crate::store::StoreError;

impl Live {
    /// Says that no CA can be held against the log, and has it tried again. While the store is out nothing can be recorded, so nothing is issued
    /// anyway, and what was opened before stays. An entry that is not what was recorded may be the one that retires a CA: then none is used,
    /// as at a start, until it is.
    pub(super) async fn not_compared(&mut self, reload: &mut Reload<'_>, error: &StoreError) {
        self.is_waiting = true;
        let why = format!("CAs cannot be compared with the audit log ({error})");
        let line = |name: String, detail| Check { name, ok: false, required: false, detail: Some(detail) };
        if !matches!(error, StoreError::Damaged(_)) {
            let detail = format!("{why}, so those in force stay; it is tried again");
            return reload.checks.push(line("ca keys".into(), detail));
        }
        let ended: Vec<_> = self.issuers.borrow().keys().map(issuers::check_name).collect();
        self.issuers.send_replace(Issuers::default());
        let so = "so none is used until the entry reads as it was recorded";
        reload.checks.push(line("ca keys".into(), format!("{why}, {so}; it is tried again")));
        reload.checks.extend(ended.into_iter().map(|name| line(name, format!("{why}, {so}"))));
        if self.refused != [why.as_str()] {
            reload.note_refusal("ca keys", "no CA is used any longer", &why).await;
            self.refused = vec![why];
        }
    }
}
