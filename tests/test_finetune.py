"""Runs from first line to last: equal sums, equal curves, and what is left after trouble."""

import copy
import dataclasses
import importlib
import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import IPython.display
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from conftest import save_tiny
from finetune_runs import QUICK, STILL, run, tones
from transformers import AutoModelForCTC, Wav2Vec2Processor

import ptlab
from ptlab import comparison
from ptlab._finetune import arguments as finetune_arguments
from ptlab._finetune import optimizer as finetune_optimizer
from ptlab._finetune import progress as training_progress
from ptlab._finetune import save as finetune_save
from ptlab._finetune import trainer as finetune_trainer
from ptlab._finetune.arguments import find_precision
from ptlab._finetune.folder import checkpoints, last_checkpoint
from ptlab._finetune.optimizer import Muon, MuonAdamW, orthogonal
from ptlab._finetune.progress import LiveProgress
from ptlab._finetune.trainer import CTCTrainer, Patience
from ptlab.errors import DataError, PtlabError
from ptlab.text import VOCABULARY

ROOM = importlib.import_module("ptlab.finetune")  # ptlab.finetune is the function
BLANK_LAST = (*VOCABULARY[7:], *VOCABULARY[1:7], "<pad>")  # number 0 is a letter


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A tiny model without dropout."""
    return ptlab.load_model(save_tiny(tmp_path_factory.mktemp("still"), **STILL), device="cpu")


@pytest.fixture(scope="module")
def lively(tmp_path_factory):
    """A tiny model with every kind of dropout, whose blank is not number 0."""
    folder = save_tiny(tmp_path_factory.mktemp("lively"), vocabulary=BLANK_LAST, pad_token_id=45)
    return ptlab.load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def finished(lively, tmp_path_factory):
    """A run that nobody disturbed, with augmentation, masks and dropout."""
    return run(lively, tmp_path_factory.mktemp("finished") / "run")


def curve(result):
    """Loss, size of the gradient and error rates of every row."""
    names = ("step", "loss", "grad_norm", "validation_loss", "wer", "cer")
    return [tuple(row.get(name) for name in names) for row in result.history]


def weights(folder):
    return AutoModelForCTC.from_pretrained(folder, dtype=torch.float32).state_dict()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class TestResult:
    def test_the_folder_loads_with_transformers_alone(self, finished, lively):
        module = AutoModelForCTC.from_pretrained(finished.folder)
        processor = Wav2Vec2Processor.from_pretrained(finished.folder)
        clip = tones().row(6)["audio"]["array"]
        inputs = processor(clip, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            log_probs = module(**inputs).logits.log_softmax(-1)[0].numpy()
        ours = ptlab.load_model(finished.folder, device="cpu")
        np.testing.assert_allclose(ours.log_probs([clip])[0], log_probs, atol=1e-4)
        assert ours.vocabulary == lively.vocabulary == BLANK_LAST
        ids = ptlab.encode("boa noite", BLANK_LAST).tolist()
        assert processor.tokenizer("boa noite").input_ids == ids
        assert processor.decode([i for token in ids for i in (token, 45)]) == "boa noite"
        assert not list(finished.folder.glob("*.bin"))
        assert not checkpoints(finished.folder).exists()

    def test_the_trainer_reads_what_the_saved_model_writes(self, finished):
        """In batches of unlike clips as one by one: no frame of padding is read, and the padding of
        gathered predictions is not token 0."""
        best = min(row["wer"] for row in finished.history if "wer" in row)
        at_best = next(row for row in finished.history if row.get("wer") == best)
        assert finished.wer.value == pytest.approx(best)
        assert finished.cer.value == pytest.approx(at_best["cer"])
        assert finished.best_step == at_best["step"]

    def test_it_is_measured_after_the_last_update_too(self, finished):
        assert [row["step"] for row in finished.history if "wer" in row] == [2, 4, 6, 7]
        assert finished.steps == 7

    def test_each_evaluation_shows_the_text_of_the_same_clip(self, finished):
        shown = [row for row in finished.history if "wer" in row]
        assert len({row["reference"] for row in shown}) == 1
        best = next(row for row in shown if row["step"] == finished.best_step)
        middle = tones(3, seed=1).row(1)  # of the validation clips, by length
        assert best["reference"] == ptlab.normalize_text(middle["text"])
        [log_probs] = finished.model.log_probs([middle["audio"]["array"]])
        assert best["hypothesis"] == ptlab.decode(log_probs, BLANK_LAST, blank=45)

    def test_it_prints_converts_and_draws(self, finished):
        assert "fine-tuned with 7 updates" in str(finished)
        assert "train: 5 clips" in finished._repr_html_()
        assert finished.to_frame().step.tolist() == list(range(1, 8))
        assert json.loads(json.dumps(finished.to_dict()))["wer"]["value"] == finished.wer.value
        axes = ptlab.plot_training(finished.to_frame())
        assert len(axes[0].lines) == len(axes[1].lines) == 2

    def test_batches_are_padded_to_whole_seconds(self, lively, tmp_path, monkeypatch):
        """Else memory grows with every update: hardly two batches would be of one length."""
        lengths, loss = [], CTCTrainer.compute_loss

        def spy(self, model, inputs, *args, **kwargs):
            lengths.append(inputs["input_values"].shape[1])
            return loss(self, model, inputs, *args, **kwargs)

        monkeypatch.setattr(CTCTrainer, "compute_loss", spy)
        run(lively, tmp_path / "run")
        assert lengths
        assert not any(length % lively.sampling_rate for length in lengths)

    def test_the_card_has_the_facts(self, finished):
        card = (finished.folder / "README.md").read_text("utf-8")
        for fact in (
            "Wav2Vec2ForCTC", str(finished.wer), str(finished.cer), "train: 5 clips",
            "7 updates of 2 clips each", f"transformers {transformers.__version__}", "| seed | 0 |",
            "cpu in fp32",
        ):  # fmt: skip
            assert fact in card, fact
        assert str(finished.folder.parent) not in card

    def test_the_model_that_was_given_is_as_it_was(self, lively, tmp_path):
        before = {n: t.clone() for n, t in lively.model.state_dict().items()}
        run(lively, tmp_path / "run", steps=1)
        assert same(before, lively.model.state_dict())
        assert not lively.model.training

    def test_the_convolutions_are_frozen_and_the_rest_is_not(self, finished, lively):
        before, after = lively.model.state_dict(), weights(finished.folder)
        moved = {name for name in after if not torch.equal(before[name], after[name])}
        assert not any("feature_extractor" in name for name in moved)
        assert {n.split(".")[-2] for n in moved} >= {"lm_head", "q_proj", "projection"}

    def test_the_head_alone(self, still, tmp_path):
        result = run(still, tmp_path / "run", steps=2, freeze="encoder")
        before, after = still.model.state_dict(), weights(result.folder)
        moved = {name for name in after if not torch.equal(before[name], after[name])}
        assert moved == {"lm_head.weight", "lm_head.bias"}


class TestAccumulation:
    @pytest.mark.parametrize("batch_size", [1, 2, 3])
    def test_small_batches_make_the_update_of_the_large_one(self, still, tmp_path, batch_size):
        """Seven clips of unlike length: batches of 2, 2, 2 and 1, or of 3, 3 and 1."""
        settings = {**QUICK, "steps": 3, "spec_augment": 0, "augment": False}
        large, small = (
            ptlab.finetune(still, tones(7), tones(2, 1), output=tmp_path / str(n), batch_size=n,
                           accumulation=-(-7 // n), **settings)
            for n in (7, batch_size)
        )  # fmt: skip
        for name in ("loss", "grad_norm"):
            expected = [row[name] for row in large.history]
            assert [row[name] for row in small.history] == pytest.approx(expected, rel=1e-3)
        assert large.history[-1]["validation_loss"] == pytest.approx(
            small.history[-1]["validation_loss"], rel=1e-3
        )

    def test_the_loss_is_the_mean_over_clips_of_that_of_a_letter(self, still, tmp_path):
        settings = {**QUICK, "steps": 1, "spec_augment": 0, "augment": False}
        clips = tones(5)
        result = ptlab.finetune(still, clips, tones(2, 1), output=tmp_path / "run", batch_size=2,
                                accumulation=3, **settings)  # fmt: skip
        alone = [
            -ptlab.forward_log_prob(still.log_probs([row["audio"]["array"]])[0], tokens)
            / len(tokens)
            for row in clips
            for tokens in [ptlab.encode(ptlab.normalize_text(row["text"]))]
        ]
        assert result.history[0]["loss"] == pytest.approx(np.mean(alone), rel=1e-3)


class TestResume:
    def test_a_run_that_was_killed_goes_on_with_the_same_curve(self, finished, lively, tmp_path):
        """Killed in the middle of its third checkpoint; the second is in the middle of an epoch."""
        folder = tmp_path / "run"
        program = Path(__file__).with_name("finetune_runs.py")
        killed = subprocess.run(
            [sys.executable, program, lively.folder, folder], capture_output=True, text=True
        )
        assert killed.returncode == -9, killed.stderr
        assert (checkpoints(folder) / "checkpoint-6" / "model.safetensors").is_file()
        assert last_checkpoint(checkpoints(folder)).name == "checkpoint-4"
        result = run(lively.folder, folder)
        assert result.resumed_from == 4
        assert curve(result) == curve(finished)
        assert same(weights(folder), weights(finished.folder))

    def test_a_finished_run_is_not_done_again(self, finished, lively, monkeypatch):
        monkeypatch.setattr(ROOM, "_train", None)
        again = run(lively, finished.folder)
        assert again.to_dict() == finished.to_dict()
        assert str(again) == str(finished)
        pd.testing.assert_frame_equal(again.audit.frame, finished.audit.frame)

    def test_another_run_is_not_mixed_with_it(self, finished, lively, still):
        with pytest.raises(PtlabError, match="the model of another run"):
            run(lively, finished.folder, seed=1)
        with pytest.raises(PtlabError, match="the model of another run"):
            run(still, finished.folder)

    def test_a_folder_with_other_files_is_left_alone(self, still, tmp_path):
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(PtlabError, match="holds other files"):
            run(still, tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]

    def test_patience_is_not_forgotten(self, still, tmp_path, monkeypatch):
        """With a learning rate of next to nothing the WER never falls: two evaluations, a kill,
        one more, and the patience of two is at its end."""
        settings = {"learning_rate": 1e-12, "patience": 2, "steps": 20}
        monkeypatch.setattr(CTCTrainer, "rates", lambda *_: {"wer": 0.5, "cer": 0.5})
        whole = run(still, tmp_path / "whole", **settings)
        assert (whole.steps, whole.stopped_early) == (6, True)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(LiveProgress, "on_step_end", interrupt_at(5))
            run(still, tmp_path / "again", **settings)
        again = run(still, tmp_path / "again", **settings)
        assert (again.steps, again.resumed_from, again.stopped_early) == (6, 4, True)

    def test_a_run_at_the_end_of_its_patience_has_ended(self, still, tmp_path, monkeypatch):
        settings = {"learning_rate": 1e-12, "patience": 1, "steps": 20}
        monkeypatch.setattr(CTCTrainer, "rates", lambda *_: {"wer": 0.5, "cer": 0.5})
        with monkeypatch.context() as patch, pytest.raises(PtlabError, match="nothing is lost"):
            patch.setattr(finetune_save, "save", full_disk)
            run(still, tmp_path / "run", **settings)
        monkeypatch.setattr(CTCTrainer, "training_step", None)
        result = run(still, tmp_path / "run", **settings)
        assert (result.steps, result.best_step, result.stopped_early) == (4, 2, True)

    def test_it_goes_on_at_the_start_of_an_epoch_too(self, lively, tmp_path, monkeypatch):
        """Five clips in batches of two are three updates an epoch."""
        settings = {"evaluate_every": 3, "steps": 5}
        whole = run(lively, tmp_path / "whole", **settings)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(LiveProgress, "on_step_end", interrupt_at(4))
            run(lively, tmp_path / "again", **settings)
        again = run(lively, tmp_path / "again", **settings)
        assert again.resumed_from == 3
        assert curve(again) == curve(whole)


def full_disk(*_):
    raise OSError(28, "No space left on device")


def interrupt_at(step):
    def on_step_end(self, args, state, control, **more):
        if state.global_step == step:
            raise KeyboardInterrupt

    return on_step_end


def test_patience_waits_on_the_plateau_of_blanks():
    """WER 100 % is where every new head begins."""

    class Args:
        greater_is_better = False

    State = namedtuple("State", "best_metric")
    patience = Patience(2)
    for best, wer, expected in (
        (None, 1.0, 0), (1.0, 1.0, 0), (1.0, 1.0, 0), (1.0, 0.9, 0), (0.9, 1.0, 1), (0.9, 0.95, 2),
    ):  # fmt: skip
        patience.check_metric_value(Args(), State(best), None, wer)
        assert patience.early_stopping_patience_counter == expected, (best, wer)


class TestTrouble:
    @pytest.mark.parametrize("step", [3, 4])
    def test_a_loss_that_is_no_number_ends_the_run_and_spoils_no_checkpoint(
        self, still, tmp_path, monkeypatch, step
    ):
        """Before the next update, and, after update 4, before the checkpoint is written."""

        def spoil(self, args, state, control, model=None, **more):
            if state.global_step == step:
                with torch.no_grad():
                    model.lm_head.weight.fill_(float("nan"))

        monkeypatch.setattr(LiveProgress, "on_step_end", spoil)
        with pytest.raises(PtlabError, match=f"loss is nan after {step} updates.*checkpoint-2"):
            run(still, tmp_path / "run")
        kept = last_checkpoint(checkpoints(tmp_path / "run"))
        assert kept.name == "checkpoint-2"
        assert all(torch.isfinite(t).all() for t in weights(kept).values())

    def test_a_broken_model_is_found_before_the_first_update(self, tiny_folder, tmp_path):
        model = ptlab.load_model(tiny_folder, device="cpu")
        with torch.no_grad():
            model.model.lm_head.weight.fill_(float("inf"))
        with pytest.raises(PtlabError, match="loss is nan after 0 updates"):
            run(model, tmp_path / "run")

    def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on(
        self, finished, lively, tmp_path, monkeypatch
    ):
        def full(trainer, folder):
            if trainer.state.global_step == 4:
                raise OSError(28, "No space left on device")
            return write(trainer, folder)

        write = transformers.Trainer._save_optimizer_and_scheduler
        with monkeypatch.context() as patch:
            patch.setattr(transformers.Trainer, "_save_optimizer_and_scheduler", full)
            with pytest.raises(PtlabError, match=r"after 4 updates.*No space left.*checkpoint-2"):
                run(lively, tmp_path / "run")
        assert [p.name for p in checkpoints(tmp_path / "run").glob("checkpoint-*")] == [
            "checkpoint-2"
        ]
        assert curve(run(lively, tmp_path / "run")) == curve(finished)

    def test_a_disk_that_is_full_at_the_end_costs_no_update(
        self, finished, lively, tmp_path, monkeypatch
    ):
        with monkeypatch.context() as patch:
            patch.setattr(finetune_save, "save", full_disk)
            with pytest.raises(PtlabError, match=r"could not be written.*nothing is lost"):
                run(lively, tmp_path / "run")
        with monkeypatch.context() as patch:
            patch.setattr(CTCTrainer, "training_step", None)
            result = run(lively, tmp_path / "run")
        assert (result.steps, result.best_step) == (7, finished.best_step)
        assert curve(result) == curve(finished)
        assert same(weights(result.folder), weights(finished.folder))

    def test_too_small_a_disk_is_told_before_anything_is_read(self, still, tmp_path, monkeypatch):
        usage = namedtuple("Usage", "total used free")(10, 10, 0)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(PtlabError, match=r"0\.0 GB free; checkpoints and model need 0\.0"):
            run(still, tmp_path / "run")

    def test_no_memory_is_told_with_what_helps(self, still, tmp_path, monkeypatch):
        def full(trainer):
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 MiB")

        monkeypatch.setattr(CTCTrainer, "try_longest", full)
        with pytest.raises(PtlabError, match=r"2 clips of up to 20 s.*smaller batch_size"):
            run(still, tmp_path / "run")

    def test_useless_clips_are_told_before_a_folder_is_made(self, still, tmp_path):
        with pytest.raises(DataError, match="Nothing is left of train: 7 too long"):
            ptlab.finetune(
                still, tones(7), tones(2, 1), output=tmp_path / "run", max_s=0.1, **QUICK
            )
        assert not (tmp_path / "run").exists()

    def test_other_alphabets_are_told(self, still, tmp_path):
        train = tones(2)
        train = dataclasses.replace(train, frame=train.frame.assign(text=["Привет", "мир"]))
        with pytest.raises(DataError, match=r"cannot write 'в', 'е'.*vocabulary='transcripts'"):
            ptlab.finetune(still, train, tones(2, 1), output=tmp_path / "run", **QUICK)
        settings = {**QUICK, "steps": 1, "vocabulary": "transcripts"}
        result = ptlab.finetune(still, train, train, output=tmp_path / "run", **settings)
        assert set("приветмир") < set(result.model.vocabulary)
        assert AutoModelForCTC.from_pretrained(result.folder).config.vocab_size == 5 + len(
            set("приветмир")
        )

    def test_most_clips_dropped_is_warned_of(self, still, tmp_path, caplog):
        settings = {**QUICK, "steps": 1, "max_s": 0.6}
        result = ptlab.finetune(still, tones(7), tones(2, 1), output=tmp_path / "run", **settings)
        assert "More clips are dropped than kept" in caplog.text
        assert len(result.audit.kept) == 4

    def test_precisions_that_the_hardware_lacks_are_refused(self, monkeypatch):
        with pytest.raises(PtlabError, match="fp16' trains on CUDA only"):
            find_precision("fp16", "cpu")
        monkeypatch.setattr(finetune_arguments, "cpu_has_bfloat16", lambda: False)
        assert find_precision("auto", "cpu") == find_precision("auto", "mps") == "fp32"
        with pytest.raises(PtlabError, match="no bf16 in hardware"):
            find_precision("bf16", "cpu")
        monkeypatch.setattr(finetune_arguments, "cpu_has_bfloat16", lambda: True)
        assert find_precision("auto", "cpu") == "bf16"


class TestOptions:
    def test_checkpointing_changes_memory_and_no_number(self, still, tmp_path):
        plain, saving = (
            run(still, tmp_path / str(on), steps=2, checkpointing=on) for on in (False, True)
        )
        assert np.allclose(
            [row["grad_norm"] for row in plain.history],
            [row["grad_norm"] for row in saving.history], rtol=1e-4,
        )  # fmt: skip

    def test_bf16_on_a_cpu_is_autocast_with_float32_weights(self, still, tmp_path, monkeypatch):
        monkeypatch.setattr(finetune_arguments, "cpu_has_bfloat16", lambda: True)
        result = run(still, tmp_path / "run", steps=1, precision="bf16")
        full = run(still, tmp_path / "full", steps=1)
        assert {t.dtype for t in weights(result.folder).values()} == {torch.float32}
        assert result.history[0]["loss"] == pytest.approx(full.history[0]["loss"], rel=0.05)
        assert result.history[0]["loss"] != full.history[0]["loss"]

    @pytest.mark.parametrize(("best_by", "step"), [("wer", 2), ("cer", 4)])
    def test_kept_are_the_weights_with_the_lowest_rate_asked_for(
        self, still, tmp_path, monkeypatch, best_by, step
    ):
        shown = {"reference": "a", "hypothesis": "a"}
        told = iter([(0.5, 0.5), (0.6, 0.4), (0.7, 0.6), (0.7, 0.6)])

        def rates(trainer, prediction):
            wer, cer = next(told)
            return {**shown, "wer": wer, "cer": cer}

        monkeypatch.setattr(finetune_trainer.CTCTrainer, "rates", rates)
        assert run(still, tmp_path / "run", best_by=best_by).best_step == step

    def test_adapters_are_merged_into_a_plain_model(self, lively, tmp_path):
        result = run(lively, tmp_path / "run", lora=4, learning_rate=0.01)
        before, after = lively.model.state_dict(), weights(result.folder)
        assert before.keys() == after.keys()
        moved = {name for name in after if not torch.equal(before[name], after[name])}
        assert {name.split(".")[-2] for name in moved} == {"q_proj", "v_proj", "lm_head"}
        query = next(name for name in moved if "q_proj" in name)
        assert torch.linalg.matrix_rank(after[query] - before[query], tol=1e-5) <= 4
        best = min(row["wer"] for row in result.history if "wer" in row)
        assert result.wer.value == pytest.approx(best)

    def test_adapters_go_on_after_a_kill(self, lively, tmp_path, monkeypatch):
        whole = run(lively, tmp_path / "whole", lora=4)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(LiveProgress, "on_step_end", interrupt_at(5))
            run(lively, tmp_path / "again", lora=4)
        again = run(lively, tmp_path / "again", lora=4)
        assert again.resumed_from == 4
        assert curve(again) == curve(whole)

    def test_muon_goes_on_after_a_kill(self, lively, tmp_path, monkeypatch):
        whole = run(lively, tmp_path / "whole", optimizer="muon")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(LiveProgress, "on_step_end", interrupt_at(5))
            run(lively, tmp_path / "again", optimizer="muon")
        again = run(lively, tmp_path / "again", optimizer="muon")
        assert again.resumed_from == 4
        assert curve(again) == curve(whole)

    def test_muon_moves_all_directions_of_a_matrix_alike(self, still):
        """Newton-Schulz brings singular values to about 1; AdamW's first step has one size."""
        module = copy.deepcopy(still.model).train()
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        torch.manual_seed(0)
        for p in module.parameters():
            p.grad = torch.randn_like(p)
        MuonAdamW(module, lr=0.01, weight_decay=0.0).step()
        for name, p in module.named_parameters():
            step = (p.detach() - before[name]) / 0.01
            if p.ndim == 2 and "lm_head" not in name:
                values = torch.linalg.svdvals(step) / (0.2 * max(step.shape) ** 0.5)
                assert values.min() > 0.25 and values.max() < 1.3, name
            else:
                torch.testing.assert_close(step.abs(), torch.ones_like(step), rtol=0.05, atol=0)

    def test_the_rate_of_both_parts_rises_and_falls(self, still, tmp_path):
        rates = []

        def noted(optimizer):
            rates.append([group["lr"] for group in optimizer.param_groups])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Muon, "step", lambda part: noted(part))
            patch.setattr(torch.optim.AdamW, "step", lambda part: noted(part))
            run(still, tmp_path / "run", optimizer="muon", learning_rate=0.01, warmup=0.3)
        muon, adam = rates[::2], rates[1::2]
        assert muon == adam and len(muon) == 7
        assert [rate for [rate] in muon] == pytest.approx(
            [0, 0.005, 0.01, 0.008, 0.006, 0.004, 0.002]
        )

    def test_muon_leaves_bfloat16_alone_where_it_is_software(self, monkeypatch):
        matrix = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
        monkeypatch.setattr(finetune_optimizer, "cpu_has_bfloat16", lambda: True)
        short = orthogonal(matrix)
        monkeypatch.setattr(finetune_optimizer, "cpu_has_bfloat16", lambda: False)
        long = orthogonal(matrix)
        assert not torch.equal(long.bfloat16().float(), long)
        torch.testing.assert_close(short.bfloat16().float(), short, rtol=0, atol=0)
        torch.testing.assert_close(short, long, rtol=0, atol=0.05)

    def test_adapters_without_peft_are_told(self, still, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "peft", None)
        with pytest.raises(PtlabError, match=r"pip install 'ptlab\[lora\]'"):
            run(still, tmp_path / "run", lora=4)

    def test_clips_of_a_tenth_of_a_second_are_no_trouble(self, still, tmp_path):
        train = tones(3, shortest_s=0.1)
        train = dataclasses.replace(train, frame=train.frame.assign(text="é"))
        settings = {**QUICK, "steps": 2, "batch_size": 1, "spec_augment": 0.5}
        result = ptlab.finetune(still, train, train, output=tmp_path / "run", **settings)
        assert np.isfinite([row["loss"] for row in result.history]).all()

    def test_random_weights_of_a_config(self, still, tmp_path):
        result = run(still.model.config, tmp_path / "run", steps=1)
        assert result.base == "random wav2vec2"


def test_a_notebook_sees_one_figure_that_is_drawn_again(still, tmp_path, monkeypatch, capsys):
    drawn, updates = [], []

    class Handle:
        def update(self, figure):
            updates.append(figure)

    def display(figure, display_id):
        drawn.append(figure)
        return Handle()

    monkeypatch.setattr(training_progress, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", display)
    result = run(still, tmp_path / "run", progress=True)
    written = [f"{row['step']:>6}  {row['hypothesis']}" for row in result.history if "wer" in row]
    assert [line for line in capsys.readouterr().out.splitlines() if line] == written
    assert len(drawn) == 1
    assert len(updates) >= 3
    assert "after" in updates[-1].axes[1].get_title()


class TestCompare:
    WRITTEN = {"a": ["um dois", "três", "sim"], "b": ["um dois", "tres", "sim não"]}  # noqa: RUF012

    @pytest.fixture
    def pair(self, monkeypatch, still):
        models = []
        for name in "ab":
            models.append(ptlab.SpeechModel(name, still.model, still.feature_extractor,
                                            still.tokenizer))  # fmt: skip
        monkeypatch.setattr(comparison, "hypotheses", lambda t, _: self.WRITTEN[t.model.name])
        return models

    def split(self, **columns):
        texts = {"text": ["Um dois!", "Três.", "Sim, não"], **columns}
        corpus = tones(3)
        return dataclasses.replace(corpus, frame=corpus.frame.assign(**texts))

    def test_differences_are_those_of_the_metrics(self, pair):
        found = ptlab.compare(*pair, self.split())
        assert found.before_wer.value == 1 / 5  # "não" is missing
        assert found.after_wer.value == 1 / 5  # "tres"
        assert found.wer.difference == 0
        assert found.cer.difference == pytest.approx((1 - 4) / (7 + 4 + 7))
        assert found.relative_wer == 0
        assert found.frame.change.tolist() == [-4, 0, 1]
        assert found.speakers is None
        assert "intervals over clips" in str(found)
        examples = found.examples()
        assert examples.index("sim não") < examples.index("most worsened") < examples.index("tres")

    def test_clips_without_text_are_left_out(self, pair):
        found = ptlab.compare(*pair, self.split(text=["", None, "Sim, não"]))
        assert len(found.frame) == 1
        assert found.relative_wer == 1
        with pytest.raises(DataError, match="No clip of the split has a text"):
            ptlab.compare(*pair, self.split(text=["", "?", None]))

    def test_speakers_are_drawn_where_there_are_enough(self, pair, monkeypatch):
        monkeypatch.setattr(comparison, "FEWEST_SPEAKERS", 3)
        assert ptlab.compare(*pair, self.split(speaker=list("xyz"))).speakers == 3
        assert ptlab.compare(*pair, self.split(speaker=list("xyy"))).speakers is None

    def test_capitals_of_one_model_are_no_errors(self, monkeypatch, make_tiny):
        capitals = make_tiny(vocabulary=(*VOCABULARY[:5], *(c.upper() for c in VOCABULARY[5:])))
        monkeypatch.setattr(comparison, "hypotheses", lambda *_: ["UM DOIS", "TRÊS", "SIM NÃO"])
        assert ptlab.compare(capitals, capitals, self.split()).before_wer.value == 0
