"""The keys of a source's URLs: splits, or roles of the contract with a file of lines each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from data_contracts.contract.contract import SPLITS, DataContract


def fault_of_keys(url: Mapping[str, str | dict[str, str]]) -> str | None:
    """What is wrong with the keys of several URLs, which are splits, or roles of the contract."""
    known, splits = ", ".join(SPLITS), [key for key in url if key in SPLITS]
    roles = [key for key in url if key not in SPLITS]
    parallel = {key: set(one) for key, one in url.items() if isinstance(one, dict)}
    if splits and roles:
        return (
            f"{splits[0]} is a split and {roles[0]} is none: give a URL for each split ({known}), "
            "or for each role of the contract, or for each role within each split"
        )
    if roles and parallel:
        return f"{next(iter(parallel))} is none of {known}, and has several URLs: give it one"
    if parallel and len(parallel) < len(url):
        plain = next(key for key in splits if key not in parallel)
        return (
            f"{next(iter(parallel))} has a file for each role and {plain} has one URL: give all "
            "splits in one form"
        )
    first = next(iter(parallel.values()), set[str]())
    for split, own in parallel.items():
        if own != first or own & set(SPLITS) or len(own) < 2:
            return (
                f"{split} has the files {', '.join(sorted(own)) or 'of nothing'}: within a split "
                "each role of the contract has one, in all splits alike"
            )
    if len(roles) == 1:
        return (
            f"{roles[0]} is none of {known}; and of files for the roles of the contract there are "
            "several"
        )
    return None


def misfits_of_roles(files: Sequence[str], contract: DataContract) -> Iterator[str]:
    """Why rows of parallel files cannot be those of a contract.

    Args:
        files: what each of them is called; none: the source has none such.
    """
    if not files:
        return
    keys, roles = ", ".join(files), ", ".join(role.name for role in contract.roles)
    if set(files) != {role.name for role in contract.roles}:
        yield (
            f"source.url has the keys {keys}, which are neither splits ({', '.join(SPLITS)}) nor "
            f"the roles of contract {contract.name} ({roles})"
        )
        return
    columns = contract.columns
    others = {f"columns.{role}": name for role, name in contract.sources.items() if role != name}
    others |= {"columns.id": columns.id, "columns.split": columns.split}
    named = [field for field, name in others.items() if name is not None]
    named += ["columns.slices"] if columns.slices else []
    named += ["select"] if contract.select else []
    if named:
        yield (
            f"source.url has a file for each of {keys}, and these are all the columns that there "
            f"are: leave contract.{named[0]} out"
        )
