//! Where a backup is: at a target by its URL, which needs no cluster, or by a name that the cluster's meta has configured.

use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use anyhow::Context as _;
use clap::Args;
use pegasus_backup::{Target, TargetConfig, catalog};
use pegasus_client::BackupTarget;

/// Options that name a place.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Place {
    /// A target: its name in the configuration of the cluster, or a URL (file:///DIR, s3://BUCKET/PREFIX,
    /// webhdfs://HOST:PORT/PREFIX), which needs no cluster
    #[arg(long, value_name = "NAME|URL")]
    pub(crate) target: Option<String>,
    /// The directory below the target [default: the one that is there; of a cluster its name]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) root: Option<String>,
    /// Of an s3:// URL: where the service is, such as http://127.0.0.1:9000
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Of an s3:// URL: its region
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// Of an s3:// URL: a file with two lines, access key and secret key
    #[arg(long, value_name = "FILE")]
    access_key_file: Option<std::path::PathBuf>,
}

impl Place {
    /// By URL: the cluster is not asked.
    pub(crate) fn is_url(&self) -> bool {
        self.target.as_ref().is_some_and(|it| it.contains("://"))
    }

    /// Opens the target, and says below which directories of it to look.
    pub(crate) async fn open(&self, connect: &Connect) -> anyhow::Result<(Target, Vec<String>)> {
        let name = self.target.as_deref().unwrap_or_default();
        pegasus_backup::install_tls();
        if self.is_url() {
            let config = TargetConfig {
                endpoint: self.endpoint.clone(),
                region: self.region.clone(),
                access_key_file: self.access_key_file.clone(),
                ..TargetConfig::of_url(name)
            };
            config.check().map_err(Failed::usage)?;
            let target = Target::open(name, &config)?;
            let roots = match &self.root {
                Some(root) => vec![root.clone()],
                None => roots(&target).await?,
            };
            return Ok((target, roots));
        }
        let known = connect.client().await?.backups("", "", 1).await?;
        let found = known.targets.iter().find(|it| it.name == name);
        let found = found.ok_or_else(|| unknown(name, &known.targets))?;
        let target = open_known(found)?;
        let root = self.root.clone().unwrap_or(known.default_root);
        Ok((target, vec![root]))
    }

    /// Opens the target and finds the backup of this number in it.
    pub(crate) async fn find(
        &self,
        backup: u64,
        connect: &Connect,
    ) -> anyhow::Result<(Target, String)> {
        let (target, roots) = self.open(connect).await?;
        for root in &roots {
            let found = catalog::list(&target, root).await?;
            if found.iter().any(|it| it.backup_id == backup) {
                return Ok((target, root.clone()));
            }
        }
        let place = target.name().to_owned();
        let message = format!(
            "backup {backup} is not at {place}, below {}",
            roots.join(", ")
        );
        Err(Failed::error(Exit::NotFound, message))
    }
}

/// Directories of a target that hold backups.
async fn roots(target: &Target) -> anyhow::Result<Vec<String>> {
    let mut roots = Vec::new();
    for entry in target.list("").await? {
        if entry.is_directory && !catalog::list(target, &entry.name).await?.is_empty() {
            roots.push(entry.name);
        }
    }
    if roots.is_empty() && !catalog::list(target, "").await?.is_empty() {
        roots.push(String::new());
    }
    Ok(roots)
}

fn open_known(known: &BackupTarget) -> anyhow::Result<Target> {
    let option = |key: &str| {
        let mut options = known.options.iter();
        let found = options.find(|(name, _)| name == key);
        found.map(|(_, value)| value.clone())
    };
    let config = TargetConfig {
        endpoint: option("endpoint"),
        region: option("region"),
        access_key_file: option("access_key_file").map(Into::into),
        user: option("user"),
        ..TargetConfig::of_url(&known.url)
    };
    let opened = Target::open(&known.name, &config);
    opened.with_context(|| {
        format!(
            "target {} ({}), seen from this machine",
            known.name, known.url
        )
    })
}

fn unknown(name: &str, known: &[BackupTarget]) -> anyhow::Error {
    let near = known
        .iter()
        .map(|it| (strsim::levenshtein(name, &it.name), it.name.as_str()))
        .min();
    let hint = match near {
        None => "the cluster has no section [backup.targets.NAME]".to_owned(),
        Some((distance, near)) if distance <= 2 => format!("did you mean {near:?}?"),
        Some(_) => {
            let names: Vec<&str> = known.iter().map(|it| it.name.as_str()).collect();
            format!("there are: {}", names.join(", "))
        }
    };
    Failed::usage(format!("unknown backup target {name:?}; {hint}"))
}
