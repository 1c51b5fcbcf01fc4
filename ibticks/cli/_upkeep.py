"""``verify``, ``index``, ``compress``, ``archive``, ``prune``, ``rm``: keeping a store in order."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from ibticks.cli._options import (
    EXIT_FINDINGS,
    Dsn,
    Json,
    Root,
    Zone,
    console,
    emit,
    facts,
    opened,
    size_text,
    table,
)

__all__ = ["archive", "compress", "prune", "rebuild", "rm", "status", "verify"]


def verify(root: Root = None, dsn: Dsn = None, json: Json = False) -> None:
    """Read every file through: checksums, torn or damaged frames, and the index against them."""
    with opened(root, dsn) as store:
        findings = list(store.verify(progress=False if json else None))
    problems = [finding for finding in findings if finding.problem is not None]
    if json:
        emit(
            {
                "files": len(findings),
                "messages": sum(finding.messages for finding in findings),
                "problems": [asdict(finding) for finding in problems],
            }
        )
    elif problems:
        table(
            "problems",
            ("file", "problem", "detail"),
            ((finding.path, finding.problem, finding.detail) for finding in problems),
        )
    if not json:
        console.print(
            f"{len(findings):,} files, {sum(f.messages for f in findings):,} messages, "
            f"{size_text(sum(f.size for f in findings))}: "
            + (f"{len(problems):,} problems" if problems else "all well"),
            highlight=False,
        )
    if problems:
        raise typer.Exit(EXIT_FINDINGS)


def rebuild(root: Root = None, dsn: Dsn = None, json: Json = False) -> None:
    """Make the index anew from the files, which are the truth."""
    with opened(root, dsn) as store:
        files = store.rebuild_index(progress=False if json else None)
    if json:
        emit({"files": files})
    else:
        console.print(f"{files:,} files indexed", highlight=False)


def status(root: Root = None, dsn: Dsn = None, json: Json = False) -> None:
    """Say where the index is and how much it holds."""
    with opened(root, dsn) as store:
        about = {
            "index": store.index.describe(),
            "writable": store.index.writable,
            "files": len(store.index.files()),
            "contracts": len(store.contracts()),
        }
    if json:
        emit(about)
    else:
        facts(about)


def compress(
    root: Root = None,
    dsn: Dsn = None,
    codec: Annotated[str, typer.Option(help="zstd, gzip, snappy, or none to undo.")] = "zstd",
    older_than: Annotated[str, typer.Option(help="Only hours that ended this long ago.")] = "24h",
    json: Json = False,
) -> None:
    """Compress sealed files, each verified before it takes the old one's place."""
    with opened(root, dsn) as store:
        before = {record.path: record.size for record in store.index.files()}
        done = store.compress(codec, older_than=older_than, progress=False if json else None)
    saved = sum(before[record.path] - record.size for record in done)
    if json:
        emit({"files": len(done), "saved_bytes": saved})
    else:
        console.print(f"{len(done):,} files, {size_text(saved)} saved", highlight=False)


def archive(
    to: Annotated[
        str, typer.Option(help="s3://bucket/prefix, gs://, az://, file:///folder or another URL.")
    ],
    root: Root = None,
    dsn: Dsn = None,
    older: Annotated[str, typer.Option(help="Only hours that ended this long ago.")] = "30d",
    grace: Annotated[
        str | None,
        typer.Option(
            help="Delete files here that were archived this long ago, such as 7d.",
            show_default="the files stay",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Copy sealed files to an object store, each read back and compared."""
    with opened(root, dsn) as store:
        report = store.archive(to, older_than=older, grace=grace, progress=False if json else None)
    if json:
        emit(asdict(report))
    else:
        console.print(
            f"{len(report.copied):,} files copied ({size_text(report.copied_bytes)}), "
            f"{len(report.deleted):,} deleted here ({size_text(report.deleted_bytes)}), "
            f"{report.waiting:,} archived ones stay",
            highlight=False,
        )


def prune(
    keep: Annotated[str, typer.Option(help="How long ticks are kept, such as 90d.")],
    root: Root = None,
    dsn: Dsn = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete files older than what is kept. They cannot be had again."""
    from ibticks.calendar import now_ns

    now = now_ns()  # what is deleted is what was asked about
    with opened(root, dsn) as store:
        paths = store.prune(keep, now=now, dry_run=True)
        if paths and not dry_run:
            if not yes:
                typer.confirm(f"delete {len(paths):,} files for good?", abort=True, err=True)
            paths = store.prune(keep, now=now, progress=False if json else None)
    if json:
        emit({"deleted": [] if dry_run else paths, "would_delete": paths if dry_run else []})
        return
    console.print(
        f"{len(paths):,} files {'would be deleted' if dry_run else 'deleted'}", highlight=False
    )


def rm(
    contract: Annotated[str, typer.Argument(help="Contract id or symbol.")],
    tick_type: Annotated[str, typer.Argument(help="last, all_last, bid_ask or mid_point.")],
    root: Root = None,
    dsn: Dsn = None,
    start: Annotated[
        str | None, typer.Option(help="First instant to delete; the first tick by default.")
    ] = None,
    end: Annotated[
        str | None, typer.Option(help="First instant to stay; after the last tick by default.")
    ] = None,
    tz: Zone = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove the files of ticks deleted earlier, for good.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete ticks of one stream; they are kept in files beside it until --purge removes these."""
    which = int(contract) if contract.isdecimal() else contract
    done = "would be" if dry_run else "were"
    with opened(root, dsn) as store:
        if purge:
            remove = partial(store.purge, which, tick_type, start=start, end=end, tz=tz)
            paths = remove(dry_run=True)
            if paths and not dry_run:
                _confirm(f"remove {len(paths):,} files of deleted ticks for good?", yes)
                paths = remove()
            if json:
                emit({"purged": [] if dry_run else paths, "would_purge": paths if dry_run else []})
            else:
                console.print(f"{len(paths):,} files {done} removed for good", highlight=False)
            return
        delete = partial(store.delete, which, tick_type, start=start, end=end, tz=tz)
        deletion = delete(dry_run=True)
        if deletion.ticks and not dry_run:
            files = f"{len(deletion.files):,} hour files"
            _confirm(f"delete {deletion.ticks:,} ticks from {files}?", yes)
            deletion = delete()
    if json:
        emit({"dry_run": dry_run, **asdict(deletion)})
        return
    console.print(
        f"{deletion.ticks:,} ticks {done} deleted from {len(deletion.files):,} hour files",
        highlight=False,
    )
    for path in deletion.kept:
        console.print(f"kept in {path}", highlight=False, markup=False, soft_wrap=True)
    if deletion.kept:
        console.print(
            "ibticks import FILE puts a kept file back; ibticks rm --purge removes them for good",
            highlight=False,
            soft_wrap=True,
        )


def _confirm(question: str, yes: bool) -> None:
    if not yes:
        typer.confirm(question, abort=True, err=True)
