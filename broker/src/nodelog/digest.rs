//! The digests of a batch of calls, as `docs/nodelog.md` writes them down: SHA-256 over the calls' encodings, one behind the
//! other, of all calls and of each node's. Each is a CBOR array (RFC 8949 §4.2.1) of what is kept of the call; a node's digest has each
//! call's place in the batch before it, so that what the quota takes of one node leaves the others' calls proved, ids included.

use std::collections::BTreeMap;

use ichor_wire::log::NodeCalls;
use minicbor::Encoder;
use minicbor::encode::{Error, Write};
use sha2::{Digest, Sha256};

use crate::store::Call;

/// The digest of these calls in this order.
#[must_use]
pub(super) fn digest<'a>(calls: impl IntoIterator<Item = &'a Call>) -> [u8; 32] {
    let (mut hash, mut bytes) = (Sha256::new(), Vec::with_capacity(512));
    for call in calls {
        hash.update(encoded(&mut bytes, call));
    }
    hash.finalize().into()
}

/// The digest of the calls of one node, each with its place in the batch.
#[must_use]
pub(super) fn digest_of_node<'a>(calls: impl IntoIterator<Item = (u64, &'a Call)>) -> [u8; 32] {
    let (mut hash, mut bytes) = (Sha256::new(), Vec::with_capacity(512));
    for (place, call) in calls {
        hash.update(numbered(&mut bytes, place));
        hash.update(encoded(&mut bytes, call));
    }
    hash.finalize().into()
}

/// The digests of a batch: of all calls, and of each node's in the order of their names.
#[must_use]
pub(super) fn digests(calls: &[Call]) -> ([u8; 32], Vec<NodeCalls>) {
    let (mut all, mut bytes) = (Sha256::new(), Vec::with_capacity(512));
    let mut nodes: BTreeMap<&str, (u64, Sha256)> = BTreeMap::new();
    for (place, call) in (0..).zip(calls) {
        let (count, hash) = nodes.entry(&call.node).or_default();
        *count += 1;
        hash.update(numbered(&mut bytes, place));
        let encoded = encoded(&mut bytes, call);
        hash.update(encoded);
        all.update(encoded);
    }
    let nodes = nodes.into_iter().map(|(node, (count, hash))| NodeCalls {
        node: node.to_owned(),
        count,
        calls: hash.finalize().to_vec(),
    });
    (all.finalize().into(), nodes.collect())
}

fn encoded<'a>(bytes: &'a mut Vec<u8>, call: &Call) -> &'a [u8] {
    bytes.clear();
    // writing to memory does not fail
    let _ = encode(&mut Encoder::new(&mut *bytes), call);
    bytes
}

fn numbered(bytes: &mut Vec<u8>, place: u64) -> &[u8] {
    bytes.clear();
    // nor does this
    let _ = Encoder::new(&mut *bytes).u64(place);
    bytes
}

fn encode<W: Write>(e: &mut Encoder<W>, call: &Call) -> Result<(), Error<W::Error>> {
    e.array(15)?.str(&call.cluster)?.str(&call.node)?.str(call.service.as_str())?.str(&call.method)?;
    e.encode(call.code)?.i64(call.started.as_microsecond())?.i64(call.duration)?.str(&call.roles)?;
    match &call.owner {
        Some(owner) => e.array(3)?.str(owner.provider.as_str())?.str(&owner.issuer)?.str(&owner.subject)?,
        None => e.null()?,
    };
    e.encode(call.user.as_deref())?;
    match call.grant {
        Some(grant) => e.bytes(grant.0.as_bytes())?,
        None => e.null()?,
    };
    e.encode(call.peer.as_deref())?.str(call.class.as_str())?.encode(call.why.as_deref())?.encode(call.entry)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::store::CallClass;
    use crate::store::conformance::call;

    #[test]
    fn each_field_counts_and_the_order_too() {
        let one = call("cp-1", "ada", 1);
        let changes: [fn(&mut Call); 15] = [
            |call| call.cluster = "lab".into(),
            |call| call.node = "cp-2".into(),
            |call| call.service = crate::store::NodeService::Apid,
            |call| call.method = "/a.B/C".into(),
            |call| call.code = None,
            |call| call.started = crate::store::conformance::after(2),
            |call| call.duration += 1,
            |call| call.roles = "os:admin".into(),
            |call| call.owner = None,
            |call| call.user = Some("bob".into()),
            |call| call.grant = None,
            |call| call.peer = Some("10.0.0.1:1".into()),
            |call| call.class = CallClass::Escape,
            |call| call.why = Some("x".into()),
            |call| call.entry = Some(1),
        ];
        let mut seen = vec![digest([&one])];
        for change in changes {
            let mut other = one.clone();
            change(&mut other);
            seen.push(digest([&other]));
            assert_ne!(digest([&one, &other]), digest([&other, &one]));
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 16);
        let (all, nodes) = digests(&[one.clone(), call("cp-0", "ada", 1), one.clone()]);
        assert_eq!(all, digest([&one, &call("cp-0", "ada", 1), &one]));
        assert_eq!(nodes.iter().map(|of| (of.node.as_str(), of.count)).collect::<Vec<_>>(), [("cp-0", 1), ("cp-1", 2)]);
        assert_eq!(nodes[1].calls, digest_of_node([(0, &one), (2, &one)]));
        assert_ne!(nodes[1].calls, digest_of_node([(0, &one), (1, &one)]), "their places count");
        assert_eq!(HEXLOWER.encode(&digest([])), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
