//! A route as a row of a table. The routers are built of nothing else, so a test that walks the tables walks what is served.

use axum::Router;
use axum::routing::MethodRouter;

/// What a route asks of whoever calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A live session and a proof made with its key.
    Session,
    /// A code or a token, and a proof made with the key that it is bound to.
    Proof,
    /// The static token of the log's tiles.
    Token,
    /// The cookie of the browser in which a login is under way.
    Cookie,
    /// The cookie of a browser that is signed in at the pages.
    Page,
    /// Nothing: it begins a login, or shows what everyone may see.
    Nothing,
}

/// A route.
#[derive(Clone, Copy, Debug)]
pub struct Route<S> {
    /// The method.
    pub method: &'static str,
    /// The path, as axum matches it.
    pub path: &'static str,
    /// What it asks for.
    pub needs: Needs,
    /// Its handler.
    serve: fn() -> MethodRouter<S>,
}

// === impl Route ===

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// A row of a table.
    pub(super) const fn new(
        method: &'static str,
        path: &'static str,
        needs: Needs,
        serve: fn() -> MethodRouter<S>,
    ) -> Self {
        Self { method, path, needs, serve }
    }
}

/// The router of a table.
pub(super) fn router<S: Clone + Send + Sync + 'static>(table: &[Route<S>]) -> Router<S> {
    table.iter().fold(Router::new(), |router, route| router.route(route.path, (route.serve)()))
}
