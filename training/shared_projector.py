"""One bench for many processes: its owner shows everybody's codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from training.errors import CodeError, FingerprintError, LostRankError, SettingsError
from training.projector import Projector, check_codes, counts
from training.team import Team, together

_DTYPES = (torch.int8, torch.int16, torch.float32, torch.float64, torch.int32, torch.int64)


class SharedProjector:
    """A projector of a team of processes, of which one or several own a bench.

    Every process calls `project` at the same time, as they do in a backward pass. Each owner gets
    its share of everybody's codes, all in one call, and sends the projections back. Where a bench
    fails, its owner raises what the bench raised, and all others a `LostRankError` that names it.
    Where it is calibrated anew, its owner tells the new fingerprint with the projections.

    Args:
        projector: The bench of this process, or None.
        team: All processes.

    Raises:
        SettingsError: No process has a projector.
        FingerprintError: Owners have different ones.
        LostRankError: A process is gone.
    """

    def __init__(self, projector: Projector | None, team: Team) -> None:
        self._own, self._team = projector, team
        self._renewed = False  # by the last call
        facts = "" if projector is None else _facts(projector)
        held = [each.strip() for each in team.gathered(facts)]
        self._owners = [rank for rank, fact in enumerate(held) if fact]
        if not self._owners:
            raise SettingsError("No process has a projector: give one of them its bench.")
        if len({held[rank] for rank in self._owners}) > 1:
            names = "; ".join(f"rank {rank} has {held[rank].split()[2]}" for rank in self._owners)
            raise FingerprintError(
                f"Benches that are not the same matrix cannot share error vectors: {names}. Let "
                "one process own the bench."
            )
        n_inputs, n_outputs, self._fingerprint = held[self._owners[0]].split()
        self._n_inputs, self._n_outputs = int(n_inputs), int(n_outputs)

    @property
    def n_inputs(self) -> int:
        """Length of a code vector."""
        return self._n_inputs

    @property
    def n_outputs(self) -> int:
        """Length of a projection."""
        return self._n_outputs

    def project(self, codes: Tensor) -> Tensor:
        """`codes @ B.T` of this process's codes, while all others project theirs.

        Raises:
            CodeError: Codes are not `[rows, n_inputs]`, or not all processes have the same type.
            FingerprintError: One of several benches has been calibrated anew.
            LostRankError: A process is gone, or the bench of another one failed.
        """
        check_codes(codes, self.n_inputs)
        shares = codes.detach().cpu().tensor_split(len(self._owners))
        sent = [
            (owner, [_Codes.read(block) for block in self._team.gathered_rows(_block(share))])
            for owner, share in zip(self._owners, shares, strict=True)
        ]
        calibrated = self._calibrated()
        failure, answer = self._answer(dict(sent).get(self._team.rank, []))
        self._renewed = self._calibrated() > calibrated
        parts = [self._returned(owner, everybody, answer, failure) for owner, everybody in sent]
        if failure is not None:
            raise failure
        return torch.cat(parts)

    def fingerprint(self) -> str:
        """That of the owners' projector."""
        return self._fingerprint

    def totals(self) -> Mapping[str, float]:
        """The account of this process's own bench; without one it is empty."""
        return {} if self._own is None else self._own.totals()

    def _calibrated(self) -> int:
        """What grows whenever this process's bench has become another matrix."""
        return counts(self.totals()).get("calibration_exposures", 0)

    def _answer(self, sent: Sequence[_Codes]) -> tuple[Exception | None, Sequence[Tensor]]:
        """What this process's bench makes of everybody's codes, or why it does not."""
        if self._own is None:
            return None, ()
        try:
            types = sorted({str(codes.dtype) for codes in sent})
            if len(types) > 1:
                raise CodeError(f"Codes of {' and '.join(types)} at once: let all have one type.")
            rows = [codes.rows(self.n_inputs) for codes in sent]
            projected = self._own.project(torch.cat(rows)).float().cpu()
            return None, torch.split(projected, [len(each) for each in rows])
        except Exception as error:  # told to all others first, then raised
            return error, ()

    def _returned(
        self,
        owner: int,
        sent: Sequence[_Codes],
        answer: Sequence[Tensor],
        failure: Exception | None,
    ) -> Tensor:
        """The projections that an owner sends to this process."""
        team = self._team
        mine = owner == team.rank
        state = torch.tensor([int(mine and failure is not None), int(mine and self._renewed)])
        with together(team):
            dist.broadcast(state, src=owner)
        failed, renewed = state.tolist()
        if renewed and not failed:
            self._learn_fingerprint(owner)
        if failed:
            if mine:
                return torch.empty(0, self.n_outputs)
            raise LostRankError(
                f"The bench of rank {owner} failed; its own output says how. Start all processes "
                "again; --resume goes on from the last checkpoint."
            )
        lengths = [len(codes.rows(self.n_inputs)) for codes in sent]
        received = torch.zeros(max(lengths), self.n_outputs)
        parts: list[Tensor] | None = None
        if mine:
            parts = [torch.zeros_like(received) for _ in lengths]
            for part, own in zip(parts, answer, strict=True):
                part[: len(own)] = own
        with together(team):
            dist.scatter(received, parts, src=owner)
        return received[: lengths[team.rank]]

    def _learn_fingerprint(self, owner: int) -> None:
        """What the matrix has become, from the process whose bench was calibrated anew."""
        if len(self._owners) > 1:
            raise FingerprintError(
                f"The bench of rank {owner} was calibrated anew: the matrices of several benches "
                "are not the same any more. Let one process own the bench."
            )
        told = [self._own.fingerprint() if self._own is not None else ""]
        with together(self._team):
            dist.broadcast_object_list(told, src=owner)
        self._fingerprint = told[0]


@dataclass(frozen=True)
class _Codes:
    """Codes on their way: their bytes, and of which type they are."""

    dtype: torch.dtype
    content: Tensor

    @classmethod
    def read(cls, block: Tensor) -> _Codes:
        """What `_block` made."""
        return cls(_DTYPES[int(block[-1])], block[:-1])

    def rows(self, n_inputs: int) -> Tensor:
        """`[rows, n_inputs]`."""
        return self.content.clone().view(self.dtype).view(-1, n_inputs)


def _block(codes: Tensor) -> Tensor:
    """Codes as bytes, with a last one for their type.

    Raises:
        CodeError: A type that is none of codes.
    """
    if codes.dtype not in _DTYPES:
        raise CodeError(f"Codes of {codes.dtype}: choose from {', '.join(map(str, _DTYPES))}.")
    kind = torch.tensor([_DTYPES.index(codes.dtype)], dtype=torch.uint8)
    return torch.cat([codes.contiguous().flatten().view(torch.uint8), kind])


def _facts(projector: Projector) -> str:
    return f"{projector.n_inputs} {projector.n_outputs} {projector.fingerprint()}"
