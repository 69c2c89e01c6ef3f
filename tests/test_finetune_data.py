"""Fine-tuning before the first update: clips, audit, augmentation, batches, vocabulary, head."""

import copy

import datasets
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import save_tiny
from finetune_runs import STILL, tones
from transformers import (
    AutoModelForCTC,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
)

import ptlab
from ptlab._embed.hidden_states import with_random_weights
from ptlab._finetune.augment import add_noise, augment_waveform, time_mask
from ptlab._finetune.data import ByLength, Clips, as_corpus, frames_needed
from ptlab._finetune.model import build_vocabulary, trainable_model
from ptlab._finetune.settings import FinetuneSettings
from ptlab._finetune.trainer import masking
from ptlab.collate import IGNORED, CTCCollator
from ptlab.data import Corpus
from ptlab.errors import DataError, ModelError, PtlabError, TextError
from ptlab.finetune_audit import audit_data
from ptlab.text import VOCABULARY, encode

RATE = 16_000


def corpus_of(sounds, texts, **columns):
    audio = [
        s if isinstance(s, dict) else {"array": np.float32(s), "sampling_rate": RATE}
        for s in sounds
    ]
    ids = [str(n) for n in range(len(audio))]
    return Corpus("made", pd.DataFrame({"id": ids, "text": texts, "audio": audio, **columns}))


def noise(seconds, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))


class TestInputs:
    def test_a_table_a_folder_and_a_data_set_give_the_same_clips(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", noise(0.5), RATE)
        table = tmp_path / "metadata.csv"
        table.write_text("path,text\na.wav,Olá\n", "utf-8")
        hub = datasets.Dataset.from_dict(
            {"audio": [str(tmp_path / "a.wav")], "sentence": ["Olá"], "client_id": ["x"]}
        ).cast_column("audio", datasets.Audio())
        for source in (table, tmp_path, hub):
            corpus = as_corpus(source)
            assert corpus.row(0)["text"] == "Olá"
            assert len(corpus.audio(0)) == RATE // 2
        assert as_corpus(hub).row(0)["speaker"] == "x"

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (42, "of type int; give a Corpus"),
            (datasets.Dataset.from_dict({"audio": ["a"], "words": ["b"]}), "rename_column"),
            (datasets.DatasetDict({"train": datasets.Dataset.from_dict({"a": [1]})}), "one split"),
            (Corpus("x", pd.DataFrame({"id": [], "text": [], "file": []})), "has no clips"),
            (Corpus("x", pd.DataFrame({"id": ["1"], "text": ["a"]})), "no column file or audio"),
        ],
    )
    def test_what_holds_no_clips_is_refused(self, source, message):
        with pytest.raises(DataError, match=message):
            as_corpus(source)


class TestAudit:
    @pytest.mark.parametrize(
        ("sound", "text", "reason", "advice"),
        [
            ({"bytes": b"not a sound", "path": None}, "olá", "unreadable", "load_audio"),
            (np.zeros(RATE), "olá", "silent", "right files"),
            (noise(0.02), "olá", "too short", "400 samples"),
            (noise(3), "olá", "too long", "max_s"),
            (noise(1), "", "no text", "text_column"),
            (noise(1), None, "no text", "text_column"),
            (noise(1), "?!", "no text", "text_column"),
            (noise(1), "Привет, мир", "letters", "vocabulary='transcripts'"),
            (noise(0.2), "aa bb cc dd", "label too long", "do not belong together"),
        ],
    )
    def test_a_clip_that_teaches_nothing_is_dropped(self, tiny_model, sound, text, reason, advice):
        audit = audit_data({"train": corpus_of([sound], [text])}, tiny_model, max_s=2.0)
        assert audit.frame.dropped.tolist() == [reason]
        with pytest.raises(DataError, match=f"(?s)Nothing is left of train: 1 {reason}.*{advice}"):
            audit.require_clips()

    def test_ctc_needs_a_frame_a_letter_and_one_between_twins(self, tiny_model):
        """The criterion of the audit is that of the loss: it is infinite just beyond."""
        labels = torch.tensor(encode("assar"))
        for frames in (5, 6):
            loss = torch.nn.functional.ctc_loss(
                torch.zeros(frames, 1, 46).log_softmax(-1), labels[None], [frames], [len(labels)]
            )
            assert bool(torch.isfinite(loss)) == (frames >= frames_needed(labels))

    def test_it_counts_and_tells(self, tiny_model):
        loud = np.clip(20 * noise(1), -1, 1)
        train = corpus_of([noise(1), loud, noise(9)], ["Olá!", "sim", "não"], speaker=list("aab"))
        other = corpus_of([noise(1, 1)], ["olá"], speaker=["a"])
        audit = audit_data({"train": train, "validation": other}, tiny_model, max_s=5)
        audit.require_clips()
        assert audit.shared_texts == ("olá",)
        assert audit.shared_speakers == ("a",)
        assert audit.hours("train") == pytest.approx(2 / 3600)
        assert str(audit) == (
            "train: 3 clips, 0.2 min, 1 speaker; 2 kept, 0.0 min; dropped: 1 too long\n"
            "  1 clip of these with clipping, kept\n"
            "validation: 1 clip, 0.0 min, 1 speaker; all are kept\n"
            "1 text in more than one split, which makes figures look better than they are: 'olá'\n"
            "1 speaker in more than one split, which makes figures look better than they are: 'a'"
        )

    def test_clips_without_a_speaker_are_not_one_speaker(self, tiny_model):
        splits = {n: corpus_of([noise(1)], ["olá"], speaker=[np.nan]) for n in ("a", "b")}
        assert audit_data(splits, tiny_model).shared_speakers == ()

    def test_an_encoder_is_audited_by_the_tokens_that_it_will_get(self, tiny_model):
        splits = {"train": corpus_of([noise(1), noise(1)], ["olá", "Привет, мир"])}
        audit = audit_data(splits, with_random_weights(tiny_model))
        assert audit.frame.label.tolist()[0] == "olá"
        assert audit.frame.dropped.tolist() == ["", "letters"]

    def test_other_rates_are_told(self, tiny_model):
        slow = {"array": np.float32(noise(1)[:8000]), "sampling_rate": 8000}
        audit = audit_data({"train": corpus_of([noise(1), slow], ["olá", "sim"])}, tiny_model)
        assert "1 at 16000 Hz, 1 at 8000 Hz" in str(audit)
        assert audit.frame.duration_s.tolist() == [1.0, 1.0]


class TestAugmentation:
    def test_speed_changes_the_length_and_nothing_is_lost(self):
        sound = np.float32(noise(1))
        lengths = {len(augment_waveform(sound, np.random.default_rng(n))) for n in range(30)}
        assert lengths == {round(RATE / speed) for speed in (0.9, 1.0, 1.1)}

    @pytest.mark.parametrize("snr_db", [0.0, 20.0])
    def test_noise_has_the_power_that_is_asked_for_and_falls_by_3_db_an_octave(self, snr_db):
        sound = np.float32(np.sin(np.arange(4 * RATE)))
        added = add_noise(sound, snr_db, np.random.default_rng(0)) - sound
        assert 10 * np.log10((sound**2).mean() / (added**2).mean()) == pytest.approx(
            snr_db, abs=0.1
        )
        power = np.abs(np.fft.rfft(added)) ** 2
        octaves = [power[4 * f : 8 * f].mean() for f in (500, 1000, 2000)]
        assert np.diff(10 * np.log10(octaves)) == pytest.approx([-3, -3], abs=0.3)

    @pytest.mark.parametrize("frames", [0, 1, 2, 5, 9, 10, 19, 100])
    def test_no_mask_hides_more_than_half_of_a_clip(self, frames):
        masks = [time_mask(frames, 0.9, np.random.default_rng(n)) for n in range(20)]
        assert {m.shape for m in masks} == {(frames,)}
        assert max(m.sum() for m in masks) <= frames / 2
        assert frames < 2 or all(m.any() for m in masks)

    def test_masks_have_the_share_that_is_asked_for(self):
        """Spans overlap: n of them of 10 frames leave (1 - 10/500)^n of 500 frames, about."""
        shares = [time_mask(500, 0.2, np.random.default_rng(n)).mean() for n in range(200)]
        assert np.mean(shares) == pytest.approx(1 - (1 - 10 / 500) ** 10.5, abs=0.01)

    def test_a_clip_is_the_same_wherever_it_is_read_and_another_in_the_next_epoch(self):
        def read(number, epoch, seed=0):
            labels = [encode(t) for t in tones().frame.text]
            options = {"augment": True, "spec_augment": 0.3, "seed": seed}
            clips = Clips(tones(), labels, range(7), 400, 320, RATE, **options)
            clips.set_epoch(epoch)
            return clips[number]

        first, again = read(3, 1), read(3, 1)
        assert all(np.array_equal(first[name], again[name]) for name in first)
        for other in (read(3, 2), read(3, 1, seed=1)):
            assert not np.array_equal(first["waveform"], other["waveform"])

    def test_no_clip_becomes_too_fast_for_its_text(self):
        text = "abcdefghijklmno pqrstuvwx"  # 25 letters in 25 frames: at 1.1 there are 22
        corpus, frames = corpus_of([noise(0.505)], [text]), []
        for seed in range(12):
            clips = Clips(corpus, [encode(text)], [1], 400, 320, RATE, augment=True, seed=seed)
            frames.append((len(clips[0]["waveform"]) - 400) // 320 + 1)
        assert min(frames) >= frames_needed(encode(text)) == 25
        assert max(frames) > 25  # slower ones are still made


class TestOrder:
    def order(self, epoch, seed=0):
        clips = Clips(tones(7), [encode("a")] * 40, range(40), 400, 320, RATE, seed=seed)
        order = ByLength(clips, 4)
        order.set_epoch(epoch)
        return list(order), clips

    def test_it_follows_from_seed_and_epoch_alone(self):
        torch.manual_seed(0)
        first = self.order(2)[0]
        torch.manual_seed(1)
        assert self.order(2)[0] == first
        assert self.order(3)[0] != first != self.order(2, seed=1)[0]
        assert self.order(2)[1].epoch == 2

    def test_clips_of_like_length_are_together(self):
        order = np.array(self.order(0)[0])
        assert sorted(order) == list(range(40))
        spread = np.mean([np.ptp(order[i : i + 4]) for i in range(0, 40, 4)])
        assert spread < 20  # of four drawn at random from 40: 0.6 * 41 = 24.6


class TestCollator:
    def clips(self):
        rng = np.random.default_rng(0)
        for samples, labels in ((4000, [7, 8, 9]), (7000, [10]), (720, [11, 12])):
            yield {"waveform": np.float32(3 + rng.standard_normal(samples)), "labels": labels}

    @pytest.mark.parametrize(("multiple", "width"), [(1, 7000), (4000, 8000), (7000, 7000)])
    @pytest.mark.parametrize("masks", [True, False])
    def test_each_clip_is_normalised_by_itself_and_padded_to_the_longest(
        self, masks, multiple, width
    ):
        """Against a reference written out by hand; without a mask transformers normalises a clip
        together with its padding."""
        extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=masks)
        clips = list(self.clips())
        batch = CTCCollator(extractor, pad_to_multiple_of=multiple)(clips)
        assert batch["input_values"].shape == batch["attention_mask"].shape == (3, width)
        for clip, values, mask in zip(
            clips, batch["input_values"], batch["attention_mask"], strict=True
        ):
            sound, size = clip["waveform"].astype(np.float64), len(clip["waveform"])
            expected = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
            np.testing.assert_allclose(values[:size].numpy(), expected, atol=1e-5)
            assert not values[size:].any()
            assert mask.tolist() == [1] * size + [0] * (width - size)
        assert batch["labels"].tolist() == [
            [7, 8, 9], [10, IGNORED, IGNORED], [11, 12, IGNORED],
        ]  # fmt: skip

    def test_a_batch_is_heard_as_each_clip_is_when_it_is_transcribed(self, tiny_model):
        clips = list(self.clips())
        batch = CTCCollator(tiny_model.feature_extractor)(clips)
        with torch.no_grad():
            together = tiny_model.model(**batch).logits.log_softmax(-1).numpy()
        alone = tiny_model.log_probs([clip["waveform"] for clip in clips], batch_size=1)
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_allclose(one, many[: len(one)], rtol=1e-4, atol=1e-3)

    def test_masks_are_as_long_as_the_models_frames(self, tiny_model):
        clips = [
            {**c, "mask": np.ones(tiny_model.frames(len(c["waveform"])), bool)}
            for c in self.clips()
        ]
        batch = CTCCollator(tiny_model.feature_extractor, pad_to_multiple_of=8000)(clips)
        frames = tiny_model.frames(8000)
        assert batch["mask_time_indices"].shape == (3, frames)
        assert batch["mask_time_indices"].sum(-1).tolist() == [len(c["mask"]) for c in clips]
        logits = tiny_model.model(**batch).logits
        assert logits.shape[:2] == (3, frames)

    def test_padding_changes_no_loss(self, tiny_model):
        """CTC of a clip in a batch is that of the clip alone."""
        model = trainable_model(tiny_model)
        module = model.model
        collator = CTCCollator(model.feature_extractor, pad_to_multiple_of=16000)
        clips = list(self.clips())
        with torch.no_grad():
            alone = [
                float(module(**CTCCollator(model.feature_extractor)([clip])).loss) for clip in clips
            ]
            together = float(module(**collator(clips)).loss)
        assert together == pytest.approx(np.mean(alone), rel=1e-4)


class TestVocabulary:
    def test_it_holds_what_the_texts_need_and_numbers_spelled_out(self):
        tokens = build_vocabulary(["El Niño", "11"])  # onze
        assert tokens == ("<pad>", "<s>", "</s>", "<unk>", "|", *sorted("elniñoz"))

    def test_decomposed_accents_and_other_alphabets_are_letters(self):
        assert build_vocabulary(["a\u0301"])[5:] == ("á",)
        assert build_vocabulary(["Привет"])[5:] == tuple(sorted("привет"))

    def test_nothing_to_write_is_told(self):
        with pytest.raises(TextError, match="hold no letter"):
            build_vocabulary(["?!", ""])

    def test_known_tokens_keep_their_rows(self, tiny_model):
        old, tokens = tiny_model.model.lm_head, ("|", "<unk>", "ñ", "é", "a", "<pad>")
        new = trainable_model(tiny_model, tokens)
        assert new.vocabulary == tokens
        assert new.blank == new.model.config.pad_token_id == 5
        for token in ("|", "<unk>", "é", "a", "<pad>"):
            row, was = tokens.index(token), VOCABULARY.index(token)
            assert torch.equal(new.model.lm_head.weight[row], old.weight[was])
            assert new.model.lm_head.bias[row] == old.bias[was]
        assert new.tokenizer.pad_token_id == 5

    def test_capitals_hand_their_rows_to_small_letters(self, make_tiny):
        capitals = (*VOCABULARY[:5], *"ABC")
        model = make_tiny(vocabulary=capitals)
        new = trainable_model(model, "transcripts", ["aba"])
        assert new.vocabulary[5:] == ("a", "b")
        assert torch.equal(new.model.lm_head.weight[5], model.model.lm_head.weight[5])

    @pytest.mark.parametrize("tokens", [("<pad>", "a"), ("<pad>", "<unk>", "|", "a", "a")])
    def test_impossible_vocabularies_are_refused(self, tiny_model, tokens):
        with pytest.raises(ModelError, match="and each letter once"):
            trainable_model(tiny_model, tokens)


class TestModels:
    def test_a_loaded_model_is_copied_and_trained_in_float32(self, tiny_folder):
        half = ptlab.load_model(tiny_folder, device="cpu", dtype="float16")
        new = trainable_model(half)
        assert {p.dtype for p in new.model.parameters()} == {torch.float32}
        assert {p.dtype for p in half.model.parameters()} == {torch.float16}
        with torch.no_grad():
            new.model.lm_head.weight.zero_()
        assert half.model.lm_head.weight.any()

    def test_mini_which_is_stored_in_float16_is_trained_in_float32(self):
        new = trainable_model("mini")
        assert {p.dtype for p in new.model.parameters()} == {torch.float32}

    @pytest.mark.parametrize("kind", [Wav2Vec2Model, Wav2Vec2ForPreTraining])
    @pytest.mark.parametrize("masking", [0.05, 0.0])
    def test_an_encoder_without_head_gets_the_46_tokens(self, tmp_path, tiny_model, kind, masking):
        config = copy.deepcopy(tiny_model.model.config)
        config.vocab_size, config.mask_time_prob = 32, masking
        config.codevector_dim = config.proj_codevector_dim = 32
        encoder = kind(config)
        encoder.save_pretrained(tmp_path)
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
        for source in (tmp_path, ptlab.load_model(tmp_path, device="cpu")):
            new = trainable_model(source)
            assert new.vocabulary == VOCABULARY
            assert new.model.lm_head.weight.shape[0] == new.model.config.vocab_size == 46
            assert new.model.wav2vec2.masked_spec_embed.shape == (32,)
            kept = new.model.wav2vec2.state_dict()
            for name, tensor in encoder.base_model.state_dict().items():
                assert torch.equal(kept[name], tensor), name

    def test_a_config_gives_random_weights_that_follow_the_seed(self, tiny_model):
        heads = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            new = trainable_model(tiny_model.model.config)
            heads.append(new.model.lm_head.weight)
        assert torch.equal(heads[0], heads[1])
        assert not torch.equal(heads[0], heads[2])
        assert new.name == "random wav2vec2"

    @pytest.mark.parametrize("kind", ["hubert", "wavlm", "data2vec-audio"])
    def test_relatives_take_the_batches(self, make_tiny, kind):
        new = trainable_model(make_tiny(kind, **STILL))
        clips = [{"waveform": np.float32(noise(0.4)), "labels": [7, 8], "mask": np.ones(19, bool)}]
        batch = CTCCollator(new.feature_extractor)(clips)
        new.model.train()
        assert torch.isfinite(new.model(**batch).loss)
        assert new.model.config.ctc_loss_reduction == "mean"

    @pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "data2vec-audio"])
    def test_masks_of_the_batch_reach_the_encoder(self, make_tiny, kind):
        module = trainable_model(make_tiny(kind, mask_time_prob=0.0, **STILL)).model.train()
        batch = {"input_values": torch.from_numpy(noise(0.4))[None].float()}
        hidden, masks = [], torch.ones(1, 19, dtype=torch.bool)
        with torch.no_grad():
            for given in (None, masks, None):
                with masking(module, given):
                    hidden.append(module(**batch).logits)
        assert torch.equal(hidden[0], hidden[2]) and not torch.allclose(hidden[0], hidden[1])
        assert not module.base_model._forward_pre_hooks

    def test_filter_banks_are_refused(self, make_tiny):
        with pytest.raises(ModelError, match="models that take waveforms"):
            trainable_model(make_tiny("wav2vec2-bert"))

    def test_what_is_not_there_is_told(self, tmp_path):
        with pytest.raises(ModelError, match="No model 'no such'"):
            trainable_model("no such")
        with pytest.raises(ModelError, match="lacks config"):
            trainable_model(tmp_path)

    def test_an_encoder_cut_short_is_told(self, tmp_path, tiny_model):
        Wav2Vec2Model(copy.deepcopy(tiny_model.model.config)).save_pretrained(tmp_path)
        Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
        with pytest.raises(ModelError, match="Cannot load"):
            trainable_model(tmp_path)

    def test_the_models_own_masks_fail_for_short_clips(self, tmp_path):
        """Why the masks come with the batches."""
        module = AutoModelForCTC.from_pretrained(save_tiny(tmp_path, mask_time_prob=0.05)).train()
        short = CTCCollator(Wav2Vec2FeatureExtractor())(
            [{"waveform": np.float32(noise(0.1)), "labels": [7], "mask": np.zeros(4, bool)}]
        )
        with masking(module, short.pop("mask_time_indices")):
            assert torch.isfinite(module(**short).loss)
        with pytest.raises(ValueError, match="mask_length"):
            module(**short)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, "No setting epoch; there are epochs, steps"),
        ({"batch_size": 0}, "batch_size=0; it must be a number, 1 or more"),
        ({"learning_rate": 3}, "learning_rate=3; try 1e-4"),
        ({"warmup": 100}, "warmup=100; it is a share"),
        ({"freeze": "all"}, "choose one of features, encoder, nothing"),
        ({"vocabulary": "text"}, "model, transcripts"),
        ({"precision": "int8"}, "auto, fp32, bf16, fp16"),
        ({"steps": True}, "steps=True"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(PtlabError, match=message):
        FinetuneSettings.from_names(settings)
