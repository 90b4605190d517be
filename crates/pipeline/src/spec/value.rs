//! Values that are not in the file: references to where they are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forms::VARIABLE;

/// Where a value is to be found when the component starts.
///
/// Read by the driver on the machine that runs the component; never written
/// into plans, logs or state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Reference {
    /// A variable in the environment of `sheafctl`.
    Env(#[schemars(regex(pattern = VARIABLE))] String),
    /// The content of a file, without the line end at its end.
    File(#[schemars(length(min = 1))] String),
    /// A key of a Kubernetes secret.
    KubernetesSecret(SecretKey),
    /// What a program prints, such as a client of Vault: the program and its arguments.
    Command(#[schemars(length(min = 1), inner(length(min = 1)))] Vec<String>),
}

/// One entry of a Kubernetes secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKey {
    /// The secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A text, or a reference to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Text {
    /// The text itself.
    Plain(String),
    /// Where it is.
    Reference(Reference),
}

/// A secret: always a reference, never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("x-secret" = true))]
pub struct Secret(pub Reference);
