//! `quorate cluster`: who is a member, and how that changes.

mod args;
mod show;
mod waiting;

use serde_json::{Value, json};

use super::admin::AdminArgs;
use super::failure::Failure;
use super::output::{Format, Streams, line};
use crate::node::NodeError;
use crate::storage::DataDirectory;

pub(super) use args::Verb;
use args::{About, Commit, Common, Forget, Limit, Limited, Rejoin, Revert, Transfers};

/// Does what was asked for.
pub(super) async fn run(verb: Verb, streams: &mut Streams<'_>) -> Result<(), Failure> {
    match verb {
        Verb::Plan(args) => {
            let plan = args.admin.get("/cluster/plan".to_owned(), streams).await?;
            show_plan(&args.admin, &plan, streams)
        }
        Verb::Commit(args) => commit(&args, streams).await,
        Verb::Revert(args) => revert(&args, streams).await,
        Verb::Join => join(streams),
        Verb::Leave(args) => {
            let wanted = json!({"change": "leave", "node": args.node});
            stage(&args.common, wanted, streams).await
        }
        Verb::Replace(args) => {
            let wanted = json!({"change": "replace", "old": args.old, "new": args.new});
            stage(&args.common, wanted, streams).await
        }
        Verb::Forget(args) => forget(&args, streams).await,
        Verb::Weight(args) => {
            let wanted = json!({"change": "weight", "node": args.node, "weight": args.share});
            stage(&args.common, wanted, streams).await
        }
        Verb::Zone(args) => {
            let wanted = json!({"change": "zone", "node": args.node, "zone": args.domain});
            stage(&args.common, wanted, streams).await
        }
        Verb::Down(args) => steer(&args, "/cluster/down", streams).await,
        Verb::Up(args) => steer(&args, "/cluster/up", streams).await,
        Verb::Cancel(args) => {
            let body = json!({"force": args.force});
            act(&args.common, "/cluster/cancel", body, streams).await
        }
        Verb::Transfers(args) => transfers(&args, streams).await,
        Verb::Limit(args) => limit(&args, streams).await,
        Verb::Rejoin(args) => rejoin(&args, streams),
    }
}

/// Who has not said that they accept it is told first what there is to accept.
async fn forget(args: &Forget, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let accepts = args.accept_data_loss || args.common.dry_run;
    let wanted =
        |loss: bool| json!({"change": "forget", "node": args.node, "accept_data_loss": loss});
    if !accepts {
        let admin = &args.common.admin;
        let plan = admin
            .send("POST", "/cluster/plan", &wanted(true), streams)
            .await?;
        show::partitions_told(&plan, streams.chatter)?;
    }
    stage(&args.common, wanted(accepts), streams).await
}

async fn revert(args: &Revert, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let body = marked(json!({"node": args.node}), args.common.dry_run);
    plan_after(&args.common, "/cluster/revert", &body, streams).await
}

async fn steer(args: &About, path: &str, streams: &mut Streams<'_>) -> Result<(), Failure> {
    act(&args.common, path, json!({"node": args.node}), streams).await
}

async fn transfers(args: &Transfers, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if args.wait {
        return waiting::until_at_rest(&args.admin, streams).await;
    }
    let shown = args
        .admin
        .get("/cluster/transfers".to_owned(), streams)
        .await?;
    match args.admin.output.for_reports(streams) {
        Format::Json => Ok(line(streams.data, shown.to_string().as_bytes())?),
        Format::Table => show::transfers(&shown, streams),
    }
}

async fn limit(args: &Limit, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let Limited::Transfers = args.what;
    let limits = json!({"at_once": args.at_once, "bytes_s": args.limit()});
    let (admin, limits) = (&args.admin, marked(limits, args.dry_run));
    let answer = admin
        .send("PUT", "/cluster/transfers", &limits, streams)
        .await?;
    match admin.output.for_reports(streams) {
        Format::Json => line(streams.data, answer.to_string().as_bytes())?,
        Format::Table => show::limited(&answer, streams)?,
    }
    say_if_dry(args.dry_run, streams)
}

/// What is sent to be shown only what it would do.
fn marked(mut body: Value, dry_run: bool) -> Value {
    if let (Some(fields), true) = (body.as_object_mut(), dry_run) {
        fields.insert("dry_run".to_owned(), Value::Bool(true));
    }
    body
}

fn say_if_dry(dry_run: bool, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if dry_run {
        streams.data.flush()?;
        writeln!(streams.chatter, "nothing was changed")?;
    }
    Ok(())
}

fn show_plan(admin: &AdminArgs, plan: &Value, streams: &mut Streams<'_>) -> Result<(), Failure> {
    match admin.output.for_reports(streams) {
        Format::Json => Ok(line(streams.data, plan.to_string().as_bytes())?),
        Format::Table => show::plan(plan, streams),
    }
}

/// Stages a change and shows the plan with it; or only shows it.
async fn stage(common: &Common, wanted: Value, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let path = if common.dry_run {
        "/cluster/plan"
    } else {
        "/cluster/stage"
    };
    plan_after(common, path, &wanted, streams).await
}

async fn plan_after(
    common: &Common,
    path: &str,
    body: &Value,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let admin = &common.admin;
    let plan = admin.send("POST", path, body, streams).await?;
    let waits = common.wait && !common.dry_run;
    if !waits || !matches!(admin.output.for_reports(streams), Format::Json) {
        show_plan(admin, &plan, streams)?;
    }
    if waits {
        streams.data.flush()?;
        waiting::until_committed(admin, streams).await?;
    }
    say_if_dry(common.dry_run, streams)
}

/// Does something that moves nothing, or less.
async fn act(
    common: &Common,
    path: &str,
    body: Value,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let body = marked(body, common.dry_run);
    let answer = common.admin.send("POST", path, &body, streams).await?;
    show_made(common, &answer, streams).await
}

/// Makes what is staged, as it was shown: by the epoch that is given, or by the plan that is
/// printed first.
async fn commit(args: &Commit, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let (admin, dry_run) = (&args.common.admin, args.common.dry_run);
    let shown = if let Some(epoch) = args.epoch {
        json!({"epoch": epoch, "without": args.without()})
    } else {
        let plan = admin.get("/cluster/plan".to_owned(), streams).await?;
        if !dry_run {
            show_aside(&plan, streams)?;
        }
        let spared = || plan.get("spared").cloned();
        let without = args.without().map(|without| json!(without));
        json!({"epoch": plan.get("epoch"), "without": without.or_else(spared)})
    };
    let shown = marked(shown, dry_run);
    let answer = admin.send("POST", "/cluster/commit", &shown, streams).await;
    let is_another = |code: &str| ["ring_changed", "plan_changed"].contains(&code);
    if matches!(&answer, Err(Failure::Refused { code, .. }) if is_another(code)) {
        // The refusal is told even where the plan cannot be had.
        if let Ok(plan) = admin.get("/cluster/plan".to_owned(), streams).await {
            show_aside(&plan, streams)?;
        }
    }
    let answer = answer?;
    if dry_run {
        show_plan(admin, &answer, streams)?;
        return say_if_dry(dry_run, streams);
    }
    show_made(&args.common, &answer, streams).await
}

/// A plan that is not what was asked for, but what an operator has to see.
fn show_aside(plan: &Value, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let mut aside = Streams {
        data: &mut *streams.chatter,
        chatter: &mut std::io::sink(),
        is_terminal: streams.is_terminal,
    };
    show::plan(plan, &mut aside)
}

/// What has been made; with `--wait`, a program gets one answer: what came of it.
async fn show_made(
    common: &Common,
    made: &Value,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let waits = common.wait && !common.dry_run;
    match common.admin.output.for_reports(streams) {
        Format::Json if waits => {}
        Format::Json => line(streams.data, made.to_string().as_bytes())?,
        Format::Table => show::made(made, streams)?,
    }
    if waits {
        // What follows goes another way, and must not come first.
        streams.data.flush()?;
        waiting::until_at_rest(&common.admin, streams).await?;
    }
    say_if_dry(common.dry_run, streams)
}

fn join(streams: &mut Streams<'_>) -> Result<(), Failure> {
    let text = "A node joins when it is started with the peer addresses of members:\n\n  \
        quorate server --name NAME --data-dir DIR --seeds HOST:PORT,…\n\n\
        It becomes a member at once; with --auto-commit false it is staged, and this command's \
        verbs `plan` and `commit` go on from there.";
    Ok(line(streams.data, text.as_bytes())?)
}

fn rejoin(args: &Rejoin, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let (path, dry_run) = (&args.data_dir, args.dry_run);
    let readmission = DataDirectory::readmission(path, std::process::id());
    let readmission = readmission.map_err(NodeError::from)?;
    if !dry_run {
        readmission.carry_out().map_err(NodeError::from)?;
    }
    let (name, kept) = (&readmission.name, &readmission.kept);
    if args.output.for_reports(streams) == Format::Json {
        let done = json!({"node": name, "data_dir": path, "kept": kept, "dry_run": dry_run});
        return Ok(line(streams.data, done.to_string().as_bytes())?);
    }
    let (goes, can) = if dry_run {
        ("would be kept", "could then")
    } else {
        ("is kept", "can")
    };
    if let Some(kept) = kept {
        writeln!(streams.data, "what it held {goes} in {}", kept.display())?;
    }
    let path = path.display();
    writeln!(streams.data, "{path} {can} be started as a new node {name}")?;
    Ok(())
}
