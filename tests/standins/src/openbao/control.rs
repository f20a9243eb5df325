//! The handle that tests turn: who may do what, how the server ails, what was asked, and its secrets.

use anyhow::Context as _;
use jiff::SignedDuration;
use serde_json::Value;

use super::{Fault, Hold, Login, Mounted, OpenBao, Policy, Request, Rule, State, policy, transit};
use crate::lock;

// === impl OpenBao ===

impl OpenBao {
    // --- who may do what

    /// Lets somebody log in at `auth/<mount>/login`. A mount may have several.
    pub fn add_login(&self, mount: &str, login: Login) {
        self.state(|state| state.logins.entry(mount.to_owned()).or_default().push(login));
    }

    /// A login at `auth/approle/login`.
    pub fn add_approle(&self, role_id: &str, secret_id: &str) {
        self.add_login("approle", Login::AppRole { role_id: role_id.into(), secret_id: secret_id.into() });
    }

    /// From now on a login with the right credential is refused with 400 and this reason, as for a JWT whose time has not
    /// come; `None` ends it.
    pub fn refuse_logins(&self, reason: Option<&str>) {
        self.state(|state| state.login_refusal = reason.map(str::to_owned));
    }

    /// A new token, as one in a token file.
    ///
    /// # Errors
    /// When the system gives no random values.
    pub fn token(&self) -> anyhow::Result<String> {
        let now = (self.shared.now)();
        lock(&self.shared.state).tokens.create(now)
    }

    /// Ends every token but the root token: what is sent with one is answered 403 from now on.
    pub fn revoke_tokens(&self) {
        self.state(|state| state.tokens.revoke_all());
    }

    /// How many tokens were given, or made for a file, and not revoked since.
    #[must_use]
    pub fn live_tokens(&self) -> usize {
        self.state(|state| state.tokens.count())
    }

    /// How long tokens given from now on live, and how long in all.
    pub fn set_token_life(&self, ttl: SignedDuration, max_ttl: SignedDuration) {
        self.state(|state| state.tokens.set_life(ttl, max_ttl));
    }

    /// Whether tokens, also those already given, may be renewed.
    pub fn set_renewable(&self, renewable: bool) {
        self.state(|state| state.tokens.set_renewable(renewable));
    }

    /// Tokens may do exactly this, besides what every token may do to itself. At first they may do everything.
    pub fn allow_only(&self, rules: impl IntoIterator<Item = Rule>) {
        self.state(|state| state.policy.allow_only(rules.into_iter().collect()));
    }

    /// Tokens may do everything again, and nothing is denied.
    pub fn allow_all(&self) {
        self.state(|state| state.policy = Policy::default());
    }

    /// Denies the paths of `pattern`, whatever is allowed.
    pub fn deny(&self, pattern: &str) {
        self.state(|state| state.policy.deny(pattern));
    }

    /// Takes a denial back.
    pub fn undeny(&self, pattern: &str) {
        self.state(|state| state.policy.undeny(pattern));
    }

    // --- its health

    /// Seals it, as an operator does, or as a restart does: 503 to everything, and health says 503.
    pub fn seal(&self) {
        self.state(|state| state.sealed = true);
    }

    /// Unseals it. Tokens are still good.
    pub fn unseal(&self) {
        self.state(|state| state.sealed = false);
    }

    /// A node that is not the active one, and cannot forward to it because it does not answer: 307 to everything, with the
    /// active one's address, and health says 429. (While the active one answers, a standby is like it.)
    pub fn set_standby(&self, standby: bool) {
        self.state(|state| state.standby = standby);
    }

    /// Spoils what is answered at the paths of `pattern` from now on; `None` ends it.
    pub fn set_fault(&self, pattern: &str, fault: Option<Fault>) {
        self.shared.gate.set_fault(pattern, fault, 0, None);
    }

    /// Spoils the next `times` answers at the paths of `pattern`.
    pub fn spoil_next(&self, pattern: &str, fault: Fault, times: u32) {
        self.shared.gate.set_fault(pattern, Some(fault), 0, Some(times));
    }

    /// Spoils every answer at the paths of `pattern` but the next `after`: as for one who is killed there.
    pub fn spoil_after(&self, pattern: &str, fault: Fault, after: u32) {
        self.shared.gate.set_fault(pattern, Some(fault), after, None);
    }

    /// Makes requests to the paths of `pattern` wait before anything is done, until the value is released or dropped.
    #[must_use]
    pub fn hold(&self, pattern: &str) -> Hold {
        self.shared.gate.hold(pattern, false)
    }

    /// As [`OpenBao::hold`], but what was asked for is done first: only the answer waits.
    #[must_use]
    pub fn hold_answers(&self, pattern: &str) -> Hold {
        self.shared.gate.hold(pattern, true)
    }

    // --- what was asked

    /// How many requests came to the paths of `pattern`, whatever became of them.
    #[must_use]
    pub fn count(&self, pattern: &str) -> usize {
        self.requests().iter().filter(|request| policy::matches(pattern, &request.path)).count()
    }

    /// Every request so far, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.gate.requests()
    }

    /// How many logins succeeded.
    #[must_use]
    pub fn logins(&self) -> u64 {
        lock(&self.shared.state).login_count
    }

    /// How many items each request to `<mount>/sign/…` of a transit engine carried, in order; 1 for one without `batch_input`.
    #[must_use]
    pub fn batches(&self) -> Vec<usize> {
        self.transits(|transit| transit.batches().to_vec()).concat()
    }

    /// How many signatures were made.
    #[must_use]
    pub fn signatures(&self) -> usize {
        self.transits(|transit| transit.signatures()).into_iter().sum()
    }

    // --- its secrets

    /// Signs with another key than `name`'s own from now on, in every transit engine; `false` ends it.
    pub fn set_wrong_key(&self, name: &str, wrong: bool) {
        self.transits(|transit| transit.set_wrong_key(name, wrong));
    }

    /// Destroys a key version for good, as `trim` does; the newest one is rotated away first.
    ///
    /// # Errors
    /// When no transit engine has the key, or the system gives no new one.
    pub fn destroy_key_version(&self, name: &str, version: u32) -> anyhow::Result<()> {
        let now = (self.shared.now)();
        let destroyed = self.transits(|transit| transit.destroy_version(name, version, now));
        destroyed.into_iter().find_map(Result::ok).with_context(|| format!("no transit engine has the key `{name}`"))
    }

    /// Names the issuer of every PKI engine, beside its id.
    pub fn name_issuer(&self, name: &str) {
        for mounted in lock(&self.shared.state).mounts.values_mut() {
            if let Mounted::Pki(pki) = mounted {
                pki.name_issuer(name);
            }
        }
    }

    /// Makes another wrapping key, as a mount made anew has.
    pub fn change_wrapping_key(&self) {
        self.transits(transit::Transit::change_wrapping_key);
    }

    /// Writes a secret's next version behind everybody's back, in the first KV engine.
    pub fn write_secret(&self, path: &str, data: Value) {
        let now = (self.shared.now)();
        self.state(|state| {
            if let Some(kv) = state.mounts.values_mut().find_map(Mounted::kv) {
                kv.put(path, data, now);
            }
        });
    }

    /// The newest version of a secret, in the first KV engine that has it.
    #[must_use]
    pub fn secret(&self, path: &str) -> Option<Value> {
        lock(&self.shared.state).mounts.values_mut().filter_map(Mounted::kv).find_map(|kv| kv.newest(path))
    }

    /// The certificate of the PKI engines' CA, PEM.
    #[must_use]
    pub fn pki_ca(&self) -> String {
        let state = lock(&self.shared.state);
        let found = state.mounts.values().find_map(|mounted| match mounted {
            Mounted::Pki(pki) => Some(pki.ca()),
            _ => None,
        });
        found.unwrap_or_default()
    }

    fn state<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut lock(&self.shared.state))
    }

    fn transits<R>(&self, mut act: impl FnMut(&mut transit::Transit) -> R) -> Vec<R> {
        let mut state = lock(&self.shared.state);
        let transits = state.mounts.values_mut().filter_map(|mounted| match mounted {
            Mounted::Transit(transit) => Some(transit),
            _ => None,
        });
        transits.map(|transit| act(transit)).collect()
    }
}
