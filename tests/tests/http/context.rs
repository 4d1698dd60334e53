//! What a handler finds in its context, in the form of each language.

use std::process::Command;

use serde_json::{Value, json};

use crate::language::Language;

/// What is known of who calls.
#[derive(Default)]
pub struct Caller {
    pub client_context: Option<Value>,
    pub identity: Option<(&'static str, &'static str)>,
    pub arn: Option<&'static str>,
    pub tenant: Option<&'static str>,
}

impl Caller {
    /// Nothing.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// What a local client can say.
    pub fn of_local_client() -> Self {
        Self {
            client_context: Some(json!({
                "client": {"installation_id": "an-installation"},
                "custom": {"a": 1},
                "env": {"locale": "de"},
            })),
            ..Self::default()
        }
    }

    /// All that Lambda says.
    pub fn of_lambda() -> Self {
        Self {
            identity: Some(("eu-west-3:an-identity", "eu-west-3:a-pool")),
            arn: Some("arn:aws:lambda:eu-west-3:012345678912:function:mine:an-alias"),
            tenant: Some("a-tenant"),
            ..Self::of_local_client()
        }
    }

    /// As JavaScript has it: what came, and nothing where nothing did.
    fn in_javascript(&self, context: &mut Value) {
        if let Some(client_context) = &self.client_context {
            context["clientContext"] = client_context.clone();
        }
        if let Some((id, pool)) = self.identity {
            context["identity"] = json!({"cognitoIdentityId": id, "cognitoIdentityPoolId": pool});
        }
        if let Some(tenant) = self.tenant {
            context["tenantId"] = tenant.into();
        }
    }

    fn in_java(&self, context: &mut Value) {
        context["tenantId"] = self.tenant.into();
        if let Some(said) = &self.client_context {
            let client = &said["client"]["installation_id"];
            context["client"] = json!([client, null, said["custom"], said["env"]]);
        }
        if let Some((id, pool)) = self.identity {
            context["identity"] = json!([id, pool]);
        }
    }

    fn in_lua(&self, context: &mut Value) {
        if let Some(client_context) = &self.client_context {
            context["client_context"] = client_context.clone();
        }
        if let Some((id, pool)) = self.identity {
            context["identity"] =
                json!({"cognito_identity_id": id, "cognito_identity_pool_id": pool});
        }
        if let Some(tenant) = self.tenant {
            context["tenant_id"] = tenant.into();
        }
    }

    fn in_python(&self, context: &mut Value) {
        context["tenant_id"] = self.tenant.into();
        context["client"] = self.client_context.as_ref().map_or(Value::Null, |said| {
            json!([
                said["client"]["installation_id"],
                said["custom"],
                said["env"]
            ])
        });
        let (id, pool) = self.identity.unzip();
        context["identity"] = json!([id, pool]);
    }
}

impl Language {
    /// Gives a function a name and a size.
    pub fn describe(&self, command: &mut Command) {
        command
            .env("AWS_LAMBDA_FUNCTION_NAME", "mine")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_REGION", "eu-west-3");
    }

    /// What a function that was so described finds in the context of the call `the-call`, but
    /// for the time that is left, of which is only known that it is taken out.
    pub fn context(&self, caller: &Caller) -> Value {
        let own = "arn:aws:lambda:eu-west-3:012345678912:function:mine";
        let fields = [
            ("aws_request_id", json!("the-call")),
            ("log_group_name", json!("/aws/lambda/mine")),
            ("log_stream_name", json!("$LATEST")),
            ("function_name", json!("mine")),
            ("memory_limit_in_mb", json!("512")),
            ("function_version", json!("$LATEST")),
            ("invoked_function_arn", json!(caller.arn.unwrap_or(own))),
            ("remaining", Value::Null),
        ];
        let mut context = json!({});
        for (name, value) in fields {
            let name = match self.name {
                "python" | "lua" => name.to_owned(),
                _ => in_camel_case(name),
            };
            context[name] = value;
        }
        match self.name {
            "python" => caller.in_python(&mut context),
            "lua" => caller.in_lua(&mut context),
            "java" => {
                context["memoryLimitInMB"] = 512.into();
                caller.in_java(&mut context);
            }
            _ => {
                context["callbackWaitsForEmptyEventLoop"] = true.into();
                caller.in_javascript(&mut context);
            }
        }
        context
    }
}

fn in_camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut text = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(1);
        text += &match word {
            "mb" => "MB".to_owned(),
            _ => first.to_uppercase() + rest,
        };
    }
    text
}
