//! `GET` and `POST /device`: where a person types the code of another machine's terminal.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;

use super::authorize::started;
use super::form::Params;
use super::refuse;
use crate::http::{ClientAddress, web};
use crate::login::{Login, LoginError};

/// The form.
pub(super) async fn show(State(login): State<Arc<Login>>) -> Response {
    if !login.settings().device {
        return refuse(&LoginError::SwitchedOff);
    }
    web::device(&providers(&login), None)
}

/// The code.
pub(super) async fn enter(
    State(login): State<Arc<Login>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    body: Bytes,
) -> Response {
    let Ok(params) = Params::parse(&body) else {
        return refuse(&LoginError::Request("a parameter is given more than once".into()));
    };
    let typed = params.text("user_code").unwrap_or_default();
    match login.enter_user_code(typed, params.text("provider"), address).await {
        // with several providers the form asks for one, so this choice leads back to it
        Ok(start) => started(&login, start, |_| "/device".into()),
        Err(error @ LoginError::UserCode) => {
            web::device(&providers(&login), Some(&super::sentence(&error.to_string())))
        }
        Err(error) => refuse(&error),
    }
}

fn providers(login: &Login) -> Vec<String> {
    login.settings().providers.iter().map(|one| one.alias().to_string()).collect()
}
