//! The digest of a batch of calls, as `docs/nodelog.md` writes it down: SHA-256 over the calls' encodings, one behind the
//! other. Each is a CBOR array (RFC 8949 §4.2.1) of what is kept of the call.

use minicbor::Encoder;
use minicbor::encode::{Error, Write};
use sha2::{Digest, Sha256};

use crate::store::Call;

/// The digest of these calls in this order.
#[must_use]
pub(super) fn digest<'a>(calls: impl IntoIterator<Item = &'a Call>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut bytes = Vec::with_capacity(512);
    for call in calls {
        bytes.clear();
        // writing to memory does not fail
        let _ = encode(&mut Encoder::new(&mut bytes), call);
        hash.update(&bytes);
    }
    hash.finalize().into()
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
        assert_eq!(HEXLOWER.encode(&digest([])), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
