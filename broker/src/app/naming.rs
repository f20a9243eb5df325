//! CAs that the log does not name yet: those of a log that is older than its CAs, and new versions of a secret in KV. Each gets an entry
//! before it is used, so that from then on no other takes its place unseen.

use std::collections::BTreeMap;

use ichor_wire::log::{Content, Kind};

use crate::app::issuers::Unnamed;
use crate::audit::{RecordError, Sequencer};
use crate::custody::ca::CaFacts;
use crate::custody::{ABOUT, KV_PLACE, PUBLIC_KEY};

/// Records each of these CAs, with where it lives.
///
/// # Errors
/// When one could not be recorded: then none of them is to be used.
pub(super) async fn name(sequencer: &Sequencer, unnamed: &[Unnamed]) -> Result<(), RecordError> {
    for Unnamed { cluster, certificate, said, in_kv } in unnamed {
        let facts = CaFacts::of(certificate);
        let mut digests =
            BTreeMap::from([(ABOUT.to_owned(), facts.fingerprint), (PUBLIC_KEY.to_owned(), facts.key_fingerprint)]);
        digests.extend(in_kv.clone().map(|place| (KV_PLACE.to_owned(), place)));
        let message =
            format!("cluster `{cluster}`: the CA found in custody, which no entry named, is this from now on: {said}");
        let content = Content {
            cluster: Some(cluster.to_string()),
            digests: Some(digests),
            message: Some(message),
            ..Content::of(Kind::Ca)
        };
        sequencer.note(content, None).await?;
    }
    Ok(())
}
