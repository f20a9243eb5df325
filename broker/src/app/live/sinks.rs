//! Notification sinks, loaded anew.

use std::sync::Arc;

use super::reload::Reload;
use super::{Live, good};
use crate::app::digests::{Digests, Files};
use crate::{config, notify};

impl Live {
    /// The sinks of `config.toml`, of which nothing else is loaded anew. Answers the digests of the files as they are then.
    pub(super) async fn reload_sinks(&mut self, reload: &mut Reload<'_>, now: Digests) -> Digests {
        let read = || {
            let file = self.folder.file().map_err(|error| error.to_string())?;
            let sinks = config::sinks(&self.folder, &file).map_err(|error| error.to_string())?;
            let check =
                |sink: &notify::Settings| sink.check(Arc::clone(&self.clock)).map_err(|error| error.to_string());
            sinks.iter().try_for_each(check)?;
            Ok::<_, String>((config::sink_files(&self.folder, &file), sinks))
        };
        let (files, sinks) = match read() {
            Ok(read) => read,
            Err(why) => {
                reload.refuse("notify", &why).await;
                return now;
            }
        };
        let now = Digests::of(&self.settings, &files, &self.group_files);
        self.sink_files = files;
        let is_same = now.sinks == self.in_force.sinks;
        // nothing that is made of a secret is written down, so neither are these files' digests
        if is_same || reload.note("notify", "notification sinks loaded", &Files::new()).await {
            reload.checks.push(good("notify"));
            if !is_same {
                self.hearing.send_replace(hearing(&sinks));
                self.sinks.send_replace(Arc::new(sinks));
                self.in_force.sinks.clone_from(&now.sinks);
            }
        }
        now
    }
}

/// The names of the sinks that are told of break-glass requests.
pub(super) fn hearing(sinks: &[notify::Settings]) -> Vec<String> {
    sinks.iter().filter(|sink| sink.hears_of_requests()).map(|sink| sink.name.clone()).collect()
}
