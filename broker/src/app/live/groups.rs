//! The providers' files of groups, loaded anew. Sessions have what a file says when their groups are asked again.

use super::reload::Reload;
use super::{Live, good};
use crate::app::digests::{Digests, Files};
use crate::{config, login};

impl Live {
    /// Also loads the files of groups anew that these providers were made with. `read` are the files' digests from before they were: one that
    /// changed since is seen at the first look.
    pub(in crate::app) fn with_groups(mut self, login: &login::Settings, read: &Files) -> Self {
        let providers = login.providers.iter();
        let files = providers.filter_map(|it| Some((it.groups_file.clone()?, it.mapping.local_groups.clone())));
        (self.group_files, self.groups) = files.unzip();
        for known in [&mut self.in_force, &mut self.tried, &mut self.seen] {
            known.groups.clone_from(read);
        }
        self
    }

    pub(super) async fn reload_groups(&mut self, reload: &mut Reload<'_>, now: &Digests) {
        if self.groups.is_empty() {
            return;
        }
        let files = self.group_files.iter().zip(&self.groups);
        let read = files.map(|(path, in_force)| Ok((in_force, config::load_groups(path)?)));
        let read = match read.collect::<Result<Vec<_>, config::ConfigError>>() {
            Ok(read) => read,
            Err(error) => return reload.refuse("groups", &error.to_string()).await,
        };
        let is_same = now.groups == self.in_force.groups;
        if is_same || reload.note("groups", "groups loaded", &now.groups).await {
            reload.checks.push(good("groups"));
            read.into_iter().for_each(|(in_force, groups)| in_force.replace(groups));
            self.in_force.groups.clone_from(&now.groups);
        }
    }
}
