//! Logins under way: codes, devices, and the issuers that aliases stand for.

use super::*;

pub(crate) async fn a_code_is_used_once_by_fifty(store: Arc<dyn Store>) {
    assert!(store.begin_login(login(1, after(600)), 10, noon()).await.unwrap());
    let mut tries = tokio::task::JoinSet::new();
    for number in 0..50 {
        let store = Arc::clone(&store);
        tries.spawn(async move { one(&*store, create(session(number), 101)).await });
    }
    let answers = tries.join_all().await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Appended::Recorded { .. })).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Appended::Refused(Condition::CodeGone)).count(), 49);
    assert_eq!(store.head().await.unwrap().size, 1);
    assert_eq!(store.login_by_cookie(&[1; 32], noon()).await.unwrap(), None, "the login is gone with its code");
}

pub(crate) async fn a_code_that_expired_or_never_was(store: Arc<dyn Store>) {
    assert!(store.begin_login(login(1, noon()), 10, after(-60)).await.unwrap());
    assert_eq!(one(&*store, create(session(1), 101)).await, Appended::Refused(Condition::CodeGone));
    assert_eq!(one(&*store, create(session(1), 55)).await, Appended::Refused(Condition::CodeGone));
    assert!(store.session(session(1).id).await.unwrap().is_none());
}

pub(crate) async fn logins_are_bounded_and_expire(store: Arc<dyn Store>) {
    assert!(store.begin_login(login(1, after(10)), 2, noon()).await.unwrap());
    assert!(store.begin_login(login(2, after(20)), 2, noon()).await.unwrap());
    assert!(!store.begin_login(login(3, after(20)), 2, noon()).await.unwrap());
    assert!(store.begin_login(login(3, after(20)), 2, after(10)).await.unwrap(), "an expired one takes no place");
    assert_eq!(store.login_by_cookie(&[2; 32], after(19)).await.unwrap(), Some(login(2, after(20))));
    assert_eq!(store.login_by_cookie(&[2; 32], after(20)).await.unwrap(), None);
    assert_eq!(store.login_by_code(&[103; 32], after(19)).await.unwrap(), Some(login(3, after(20))));
    assert_eq!(store.login_by_code(&[103; 32], after(20)).await.unwrap(), None);
    store.drop_login(login(3, noon()).id).await.unwrap();
    assert_eq!(store.login_by_code(&[103; 32], noon()).await.unwrap(), None);
}

pub(crate) async fn logins_advance_by_version(store: Arc<dyn Store>) {
    let first = PendingLogin { code_hash: None, ..login(1, after(10)) };
    assert!(store.begin_login(first.clone(), 2, noon()).await.unwrap());
    let next = PendingLogin { code_hash: Some([5; 32]), state: b"next".to_vec(), ..first };
    assert!(store.advance_login(next.clone()).await.unwrap());
    assert!(!store.advance_login(next.clone()).await.unwrap(), "someone was faster");
    assert_eq!(store.login_by_code(&[5; 32], noon()).await.unwrap(), Some(PendingLogin { version: 1, ..next }));
    assert!(!store.advance_login(login(2, after(10))).await.unwrap());
}

pub(crate) async fn devices_are_bounded_and_expire(store: Arc<dyn Store>) {
    assert!(store.begin_device(device(1, after(10)), 2, noon()).await.unwrap());
    let twice = DeviceLogin { user_code: "CODE-1".into(), ..device(4, after(10)) };
    assert!(!store.begin_device(twice, 2, noon()).await.unwrap(), "a user code stands for one device");
    assert!(store.begin_device(device(2, after(20)), 2, noon()).await.unwrap());
    assert!(!store.begin_device(device(3, after(20)), 2, noon()).await.unwrap());
    assert!(store.begin_device(device(3, after(20)), 2, after(10)).await.unwrap());
    assert_eq!(store.device_by_code(&[2; 32], after(19)).await.unwrap(), Some(device(2, after(20))));
    assert_eq!(store.device_by_user_code("CODE-2", after(19)).await.unwrap(), Some(device(2, after(20))));
    assert_eq!(store.device_by_user_code("code-2", after(19)).await.unwrap(), None);
    assert_eq!(store.device_by_user_code("CODE-2", after(20)).await.unwrap(), None);
    assert_eq!(store.device_by_code(&[2; 32], after(20)).await.unwrap(), None);
}

pub(crate) async fn devices_advance_by_version(store: Arc<dyn Store>) {
    assert!(store.begin_device(device(1, after(10)), 2, noon()).await.unwrap());
    let next = DeviceLogin { state: b"next".to_vec(), ..device(1, after(10)) };
    assert!(store.advance_device(next.clone()).await.unwrap());
    assert!(!store.advance_device(next.clone()).await.unwrap());
    assert_eq!(store.device_by_code(&[1; 32], noon()).await.unwrap(), Some(DeviceLogin { version: 1, ..next }));
}

pub(crate) async fn a_device_code_begins_a_session(store: Arc<dyn Store>) {
    assert!(store.begin_device(device(1, after(10)), 2, noon()).await.unwrap());
    assert!(matches!(one(&*store, create(session(1), 1)).await, Appended::Recorded { .. }));
    assert_eq!(one(&*store, create(session(2), 1)).await, Appended::Refused(Condition::CodeGone));
    assert_eq!(store.device_by_code(&[1; 32], noon()).await.unwrap(), None);
}

pub(crate) async fn providers_are_pinned(store: Arc<dyn Store>) {
    let (corp, other) = (ProviderAlias::new("corp").unwrap(), ProviderAlias::new("other").unwrap());
    assert_eq!(store.pinned_issuer(&corp).await.unwrap(), None, "asking pins nothing");
    assert_eq!(store.pin_provider(&corp, "https://a").await.unwrap(), "https://a");
    assert_eq!(store.pin_provider(&corp, "https://b").await.unwrap(), "https://a");
    assert_eq!(store.pin_provider(&other, "https://b").await.unwrap(), "https://b");
    assert_eq!(store.pinned_issuer(&corp).await.unwrap().as_deref(), Some("https://a"));
}
