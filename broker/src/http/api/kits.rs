//! `/v1/kits`: what an opener of a break-glass kit brings back. Nothing else of kits is reached over the network.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ichor_wire::api::{KitReportAnswer, KitReportAsk};
use ichor_wire::kit::SignedRecord;
use ichor_wire::log::Content;
use ichor_wire::problem::Problem;

use super::Api;
use crate::domain::ClusterName;
use crate::http::error::ApiError;
use crate::http::extract::Signed;
use crate::kit::{self, Register, ReportError};
use crate::mint::person;
use crate::policy;

/// Records an opening of a break-glass kit by the record that its opener's machine wrote, signed by the kit's key. Needs policy
/// (`kit:report` on the kit's cluster). One that claims more than the kit gives is recorded as that, and explains nothing: `beyond` says
/// in what.
#[utoipa::path(post, path = "/v1/kits/reports", tag = "kits", request_body = KitReportAsk, responses(
    (status = 200, description = "the opening, as it is recorded", body = KitReportAnswer),
    (status = 400, description = "it is no record, was changed, or is of no kit that the log tells of", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses", body = Problem),
    (status = 409, description = "it is reported already with this label", body = Problem),
))]
pub async fn report(State(api): State<Api>, signed: Signed<KitReportAsk>) -> Result<Json<KitReportAnswer>, ApiError> {
    let KitReportAsk { record, label, note } = signed.body;
    let claimed = SignedRecord::unverified_record(&record).map_err(ReportError::from)?;
    let kits = kit::read(&*api.store).await?;
    // whose kit it is the log says, and not whoever wrote the record
    let known = kits.iter().find(|kit| kit.id == claimed.kit);
    let cluster = known.and_then(|kit| ClusterName::new(&kit.cluster).ok());
    let cluster = cluster.and_then(|name| api.clusters.borrow().get(&name).cloned());
    let policies = api.policies.borrow().clone();
    policy::may_report_kit(&policies, &signed.identity, cluster.as_deref(), api.clock.now())?;
    let now = api.clock.now();
    let opening = kit::reported(&*api.store, &kits, &record, label, note.as_deref(), now).await?;
    let content = Content {
        person: Some(person(&signed.identity)),
        session: signed.identity.session().map(|id| id.0.as_bytes().to_vec()),
        address: Some(signed.address.to_string()),
        ..opening.content
    };
    let receipt = Register::new(Arc::clone(&api.store), api.sequencer.clone()).note(content).await?;
    let record = opening.record;
    Ok(Json(KitReportAnswer {
        kit: record.number,
        grant: record.grant_name().to_string(),
        cluster: record.cluster,
        claimed: opening.name,
        opened: record.opened,
        label,
        beyond: opening.beyond,
        receipt,
    }))
}
