//! What a stored entry is worth: its body stands in a column of its own, and whoever writes the database can put another there.

use ichor_wire::log::{Entry, Kind, Leaf};

use super::StoredEntry;

impl StoredEntry {
    /// The entry of this kind that the leaf at this place stands for. `None` where the body is gone, is another than was recorded, or
    /// is of another kind than the columns say.
    #[must_use]
    pub fn recorded(&self, kind: Kind) -> Option<Entry> {
        let body = self.body.as_deref()?;
        let leaf = Leaf::decode(&self.leaf).ok()?;
        if leaf.index != self.index || !leaf.stands_for(body) {
            return None;
        }
        Entry::decode(body).ok().filter(|entry| entry.content.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use ichor_wire::log::Content;

    use super::*;
    use crate::store::conformance::{entry, noon};

    fn stored(index: u64, kind: Kind) -> StoredEntry {
        let new = entry(Content::of(kind), noon());
        let leaf = Leaf::of(index, &new.encoded, new.entry.time).encode().unwrap();
        StoredEntry { index, leaf, body: Some(new.encoded) }
    }

    #[test]
    fn an_entry_is_believed_where_leaf_index_and_kind_fit() {
        let grant = stored(7, Kind::Grant);
        assert_eq!(grant.recorded(Kind::Grant).unwrap().content.kind, Kind::Grant);
        assert_eq!(grant.recorded(Kind::KitOpened), None, "another kind");
        assert_eq!(StoredEntry { body: None, ..grant.clone() }.recorded(Kind::Grant), None, "no body");
        assert_eq!(StoredEntry { index: 8, ..grant.clone() }.recorded(Kind::Grant), None, "another place");
        assert_eq!(StoredEntry { leaf: vec![1], ..grant.clone() }.recorded(Kind::Grant), None, "no leaf");
        let other = Entry { broker: "another".into(), ..grant.recorded(Kind::Grant).unwrap() }.encode().unwrap();
        assert_eq!(StoredEntry { body: Some(other), ..grant }.recorded(Kind::Grant), None, "another body");
    }
}
