//! What `harvest serve` answers over HTTP: whether it lives, and whether it can work. Never decides anything about a run.

use crate::app::App;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use std::io;
use tokio::net::TcpListener;

/// Answers requests until the future is dropped.
///
/// # Errors
/// Where no connection can be accepted any more.
pub async fn serve(listener: TcpListener, app: &App) -> io::Result<()> {
    let journal = app.shared_journal();
    let ready = move || async move {
        match journal.usage().await {
            Ok(_) => (StatusCode::OK, "ready\n".to_owned()),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        }
    };
    let routes = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready));
    axum::serve(listener, routes).await
}
