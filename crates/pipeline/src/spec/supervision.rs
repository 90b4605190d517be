//! How a component is run: restarts, resources, health.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forms::URL_PATH;
use super::units::{Cpu, Duration, Size};

/// When a component that ended, or hangs, is started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Restart {
    /// After which ends.
    pub policy: RestartPolicy,
    /// The pause before the first restart; each further one is twice as long.
    #[schemars(extend("x-minimum" = "1ms"))]
    pub backoff: Duration,
    /// The longest pause.
    #[schemars(extend("x-minimum" = "1ms"))]
    pub max_backoff: Duration,
    /// Restarts within `window` after which the component counts as failed.
    #[schemars(range(max = 10_000))]
    pub max_restarts: u32,
    /// The time in which restarts are counted; one without any starts afresh.
    #[schemars(extend("x-minimum" = "1s"))]
    pub window: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Restart {
            policy: RestartPolicy::OnFailure,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            max_restarts: 10,
            window: Duration::from_secs(600),
        }
    }
}

/// After which ends a component is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum RestartPolicy {
    /// After any end, also one that it chose itself.
    Always,
    /// After a failure, a kill, or when it hangs.
    OnFailure,
    /// Never: the pipeline fails with it.
    Never,
}

/// What one instance of a component may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Resources {
    /// Cores: `0.5`, `2` or `500m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory: `256MB`, `1GiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-minimum" = "1MB"))]
    pub memory: Option<Size>,
}

/// How the health of a component is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Health {
    /// The port of `/health`; instance N has this port plus N; 0 takes a free one.
    pub port: u16,
    /// The path that is asked.
    #[schemars(regex(pattern = URL_PATH))]
    pub path: String,
    /// How often the component is asked, and beats.
    #[schemars(extend("x-minimum" = "10ms"))]
    pub interval: Duration,
    /// Without a beat for longer than this it is unhealthy.
    #[schemars(extend("x-minimum" = "10ms"))]
    pub timeout: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            port: 0,
            path: "/health".to_owned(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        }
    }
}
