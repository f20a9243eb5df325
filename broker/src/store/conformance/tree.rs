//! The log's tree: what a batch adds, what is kept, and that the past can be read back from it.

use ichor_wire::log::tree::verify_inclusion;

use super::*;

/// Appends `count` notes and answers what was committed.
async fn notes(store: &dyn Store, count: usize) -> Committed {
    store.append((0..count).map(|_| note(Kind::Reload, noon())).collect(), None).await.unwrap()
}

/// The tree over the leaves as they are stored, hashed one by one, and every tile that it completes.
async fn plain(store: &dyn Store, size: u64) -> (Edge, Vec<FullTile>) {
    let mut edge = Edge::default();
    let stored = store.entry_range(0..size).await.unwrap();
    let tiles = stored.iter().flat_map(|entry| edge.push(leaf_hash(&entry.leaf))).collect();
    assert_eq!(edge.size(), size);
    (edge, tiles)
}

pub(crate) async fn the_tree_grows_with_the_log(store: Arc<dyn Store>) {
    let empty = store.append(Vec::new(), None).await.unwrap();
    assert_eq!(*empty.tree, Grown::default());
    assert_eq!(store.edge(0).await.unwrap(), Edge::default());
    let mut sizes = Vec::new();
    // over one tile's end within a batch, and at one exactly
    for count in [1, 2, 250, 10, 249, 1] {
        let committed = notes(&*store, count).await;
        sizes.push(committed.tree.edge.size());
        assert_eq!(committed.tree.edge, plain(&*store, committed.tree.edge.size()).await.0);
    }
    assert_eq!(sizes, [1, 3, 253, 263, 512, 513]);
    // the tree as it was at any size, batch's end or not
    for size in [0, 1, 2, 3, 200, 255, 256, 257, 263, 511, 512, 513] {
        assert_eq!(store.edge(size).await.unwrap(), plain(&*store, size).await.0, "{size}");
    }
}

pub(crate) async fn complete_tiles_are_kept(store: Arc<dyn Store>) {
    assert!(notes(&*store, 255).await.tree.tiles.is_empty());
    assert_eq!(store.tile(0, 0).await.unwrap(), None);
    let committed = notes(&*store, 300).await;
    let (_, tiles) = plain(&*store, 555).await;
    assert_eq!(tiles.len(), 2);
    assert_eq!(committed.tree.tiles, tiles);
    for tile in tiles {
        assert_eq!(store.tile(0, tile.index).await.unwrap(), Some(tile));
    }
    for (level, index) in [(0, 2), (1, 0), (7, 0), (0, u64::MAX)] {
        assert_eq!(store.tile(level, index).await.unwrap(), None, "{level} {index}");
    }
    assert!(notes(&*store, 1).await.tree.tiles.is_empty(), "a batch tells of its own tiles alone");
}

pub(crate) async fn a_batch_proves_its_entries(store: Arc<dyn Store>) {
    notes(&*store, 200).await;
    let Committed { parts, tree } = notes(&*store, 400).await;
    let mut prover = tree.edge.prover(&tree.tiles);
    for part in parts {
        let Appended::Recorded { index, leaf_hash, .. } = part else { panic!("{part:?}") };
        let proof = prover.inclusion(index).unwrap();
        verify_inclusion(index, 600, &leaf_hash, &proof, &tree.edge.root()).unwrap();
    }
}

pub(crate) async fn a_refused_part_is_no_leaf(store: Arc<dyn Store>) {
    let batch = vec![note(Kind::Start, noon()), create(session(1), 101), note(Kind::Reload, noon())];
    let committed = store.append(batch, None).await.unwrap();
    assert_eq!(committed.parts[1], Appended::Refused(Condition::CodeGone));
    assert_eq!(committed.tree.edge, plain(&*store, 2).await.0);
}

pub(crate) async fn the_newest_checkpoint_is_kept(store: Arc<dyn Store>) {
    let of = |size: u64, note: &str| StoredCheckpoint { size, note: note.into() };
    assert_eq!(store.checkpoint().await.unwrap(), None);
    store.append(vec![note(Kind::Start, noon())], Some(of(0, "nothing yet"))).await.unwrap();
    assert_eq!(store.checkpoint().await.unwrap(), Some(of(0, "nothing yet")));
    store.append(Vec::new(), Some(of(1, "one\n\n— é"))).await.unwrap();
    assert_eq!(store.checkpoint().await.unwrap(), Some(of(1, "one\n\n— é")));
    // an older one comes late, as from another broker
    store.append(vec![note(Kind::Start, noon())], Some(of(0, "late"))).await.unwrap();
    assert_eq!(store.checkpoint().await.unwrap(), Some(of(1, "one\n\n— é")));
    // the same tree, signed by another key
    store.append(Vec::new(), Some(of(1, "signed anew"))).await.unwrap();
    assert_eq!(store.checkpoint().await.unwrap(), Some(of(1, "signed anew")));
    assert_eq!(store.head().await.unwrap().size, 2);
}

pub(crate) async fn a_tree_beyond_the_log_is_none(store: Arc<dyn Store>) {
    notes(&*store, 3).await;
    for size in [4, 256, 1000, u64::MAX] {
        assert!(matches!(store.edge(size).await, Err(StoreError::Damaged(_))), "{size}");
    }
}
