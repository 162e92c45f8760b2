"""The command line: what it prints, what it refuses, and that Ctrl-C loses nothing."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygpt_lib.__main__ as cli
from tinygpt_lib import (
    GPT, GPTConfig, TrainState, generate_text, load_pretrained, load_training, read_checkpoint, save_checkpoint, save_gpt2,
    save_training, train_bpe,
)  # fmt: skip

ROOT = Path(__file__).parents[1]
SIZES = "--vocab-size 280 --block-size 8 --n-layer 1 --n-head 2 --n-embd 8 --batch-size 2 --warmup-steps 2".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, play):
    """A folder with a model and a text, in a path with spaces and accents."""
    folder = tmp_path_factory.mktemp("cli") / "mes modèles à moi"
    folder.mkdir()
    model = GPT(GPTConfig(vocab_size=300, block_size=16, n_layer=1, n_head=2, n_embd=8, dropout=0.0), seed=1)
    model.encoding = train_bpe(play[:5000], 300, name="small")
    save_checkpoint(folder / "modèle un.npz", model, info={"corpus": "play", "note": "by hand"})
    (folder / "pièce.txt").write_text(play[:6000].replace("Eleven", "Élevèn"), encoding="utf-8")
    return folder


@pytest.fixture
def model_file(folder):
    return str(folder / "modèle un.npz")


def run(*arguments, **options):
    """The command as a user starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    command = [sys.executable, "-m", "tinygpt_lib", *map(str, arguments)]
    return subprocess.run(command, cwd=options.pop("cwd", ROOT), env=environment, capture_output=True, timeout=60, **options)


def refused(capsys, *arguments):
    """The one line on stderr with which the command refuses its arguments."""
    assert cli.main(list(map(str, arguments))) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.endswith("\n") and "Traceback" not in err
    return err


# ---- help


@pytest.mark.parametrize("arguments, words", [
    (["--help"], ["generate", "train", "info"]),
    (["generate", "--help"], ["--temperature", "--top-k", "--top-p", "--min-p", "--typical-p", "--seed", "--max-tokens"]),
    (["train", "--help"], ["--corpus", "--out", "--resume", "--force", "--steps", "--n-layer", "--learning-rate", "Ctrl-C"]),
    (["info", "--help"], ["--evaluate", "play"]),
])  # fmt: skip
def test_help_names_every_option(capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    out = capsys.readouterr().out
    assert ended.value.code == 0 and all(word in out for word in words)


@pytest.mark.parametrize("arguments", [
    [], ["generat", "x"], ["generate"], ["generate", "x", "--top-k", "many"], ["train", "--stepz", "5"],
])  # fmt: skip
def test_a_misspelt_command_ends_with_usage_and_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.startswith("usage: python -m tinygpt_lib") and "Traceback" not in err


# ---- generate


def test_generate_prints_what_the_library_generates(capsys, model_file):
    assert cli.main(["generate", "To be", "--model", model_file, "--seed", "3", "--max-tokens", "30", "--min-p", "0.001"]) == 0
    model, _ = load_pretrained(model_file)
    assert capsys.readouterr().out == generate_text(model, "To be", max_tokens=30, seed=3, min_p=0.001) + "\n"


def test_the_same_seed_gives_the_same_text_and_none_another(capsys, model_file):
    texts = []
    for seed in (["--seed", "5"], ["--seed", "5"], ["--seed", "6"], [], []):
        assert cli.main(["generate", "To be", "--model", model_file, "--max-tokens", "40", *seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and len(set(texts)) == 4


def test_max_tokens_0_prints_the_prompt_alone(capsys, model_file):
    assert cli.main(["generate", "To be", "--model", model_file, "--max-tokens", "0"]) == 0
    assert capsys.readouterr().out == "To be\n"


def test_a_model_that_ends_its_text_ends_the_command(capsys, model_file, tmp_path):
    model, encoding = load_pretrained(model_file)
    model.ln_f.weight.data[:], model.ln_f.bias.data[:] = 0, 1  # the last hidden state is all ones ...
    model.wte.weight.data[encoding.eot_token] = 5  # ... and end of text, whose logit is 8 * 5, the likeliest by far
    save_checkpoint(tmp_path / "ends.npz", model)
    assert cli.main(["generate", "To be", "--model", str(tmp_path / "ends.npz"), "--temperature", "0"]) == 0
    assert capsys.readouterr().out == "To be\n"


def test_text_is_printed_as_it_is_made(monkeypatch, model_file):
    pieces = []
    note = lambda *text, end="\n", flush=False: pieces.append(("".join(text) + end, flush))  # noqa: E731
    monkeypatch.setattr(cli, "print", note, raising=False)
    assert cli.main(["generate", "To be", "--model", model_file, "--seed", "1", "--max-tokens", "12"]) == 0
    assert len(pieces) >= 10 and pieces[0] == ("To be", True) and all(flush for _, flush in pieces[:-1])


def test_a_prompt_in_any_script_comes_back(model_file):
    options = ["--model", model_file, "--max-tokens", "3", "--seed", "1"]
    done = run("generate", "Être ou 你好 😀", *options, env={"PYTHONUTF8": "1"})
    assert done.returncode == 0 and done.stdout.decode().startswith("Être ou 你好 😀") and done.stderr == b""


@pytest.mark.parametrize("coerced", [{}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_terminal_without_unicode_is_no_error(model_file, coerced):
    options = ["--model", model_file, "--max-tokens", "60", "--seed", "1", "--temperature", "3"]
    done = run("generate", "Être", *options, env={"LC_ALL": "C", **coerced})
    assert done.returncode == 0 and done.stderr == b"" and done.stdout.endswith(b"\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no broken pipes of this kind")
def test_a_reader_that_has_read_enough_ends_it_quietly(model_file):
    command = [sys.executable, "-m", "tinygpt_lib", "generate", "To be", "--model", model_file, "--max-tokens", "200000"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(5) == b"To be"
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(timeout=30) >= 0


@pytest.mark.parametrize("options, words", [
    (["--model", "missing.npz"], ["missing.npz", "play"]), (["--temperature", "-1"], ["temperature", "-1"]),
    (["--top-p", "90"], ["top_p", "90"]), (["--top-k", "-3"], ["top_k", "-3"]),
    (["--max-tokens", "-1"], ["at least 0", "-1"]), (["--min-p", "2"], ["min_p", "2"]),
    (["--typical-p", "0"], ["typical_p"]), (["--repetition-penalty", "0"], ["repetition_penalty"]),
    (["--seed", "-1"], ["seed", "-1"]),
])  # fmt: skip
def test_a_mistake_in_generate_is_one_line(capsys, model_file, options, words):
    err = refused(capsys, "generate", "To be", "--model", model_file, *options)
    assert all(word in err for word in words), err


def test_an_empty_prompt_is_one_line(capsys, model_file):
    assert "empty" in refused(capsys, "generate", "", "--model", model_file)


def test_a_mistake_in_the_shell_is_one_line_too():
    done = run("generate", "To be", "--model", "missing.npz")
    assert done.returncode == 2 and done.stdout == b""
    assert done.stderr.count(b"\n") == 1 and b"missing.npz" in done.stderr and b"Traceback" not in done.stderr


# ---- train


def train(folder, out, *options):
    return cli.main(["train", "--corpus", str(folder / "pièce.txt"), "--out", str(out), *SIZES, *options])


def test_train_makes_a_model_of_the_asked_sizes_that_generates(capsys, folder, tmp_path):
    assert train(folder, tmp_path / "été.npz", "--steps", "6", "--eval-every", "3", "--seed", "4") == 0
    out = capsys.readouterr().out
    model, encoding = load_pretrained(tmp_path / "été.npz")
    sizes = model.config
    assert (sizes.vocab_size, sizes.block_size, sizes.n_layer, sizes.n_head, sizes.n_embd) == (280, 8, 1, 2, 8)
    assert encoding.n_vocab == 280
    assert f"{model.num_parameters():,} parameters" in out and re.search(r"Validation loss: \d\.\d{4} nats per token", out)
    assert cli.main(["generate", "To be", "--model", str(tmp_path / "été.npz"), "--max-tokens", "2"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["été.npz"]  # no temporary files are left


def test_training_learns(folder, tmp_path):
    assert train(folder, tmp_path / "a.npz", "--steps", "60", "--eval-every", "20", "--learning-rate", "1e-2") == 0
    losses = [record["val_loss"] for record in cli.read_checkpoint(tmp_path / "a.npz").history]
    assert len(losses) == 3 and losses[0] < np.log(280) + 0.1 and losses[-1] < losses[0] - 0.3


def test_the_printed_command_makes_the_same_model_again(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(folder, "a.npz", "--steps", "4", "--seed", "9") == 0
    command = cli.shlex.split(cli.read_checkpoint("a.npz").info["command"])
    assert command[:3] == ["python", "-m", "tinygpt_lib"] and cli.main([*command[3:], "--force"]) == 0
    shutil.move("a.npz", "b.npz")
    assert train(folder, "a.npz", "--steps", "4", "--seed", "9") == 0
    assert_same_weights("a.npz", "b.npz")


def assert_same_weights(a, b):
    a, b = load_pretrained(a)[0].state_dict(), load_pretrained(b)[0].state_dict()
    assert a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def test_an_existing_file_is_refused_unless_forced(capsys, folder, tmp_path):
    (tmp_path / "my model.npz").write_bytes(b"precious")
    err = refused(capsys, "train", "--corpus", folder / "pièce.txt", "--out", tmp_path / "my model.npz", *SIZES)
    assert "--force" in err and "--resume" in err and "my model.npz'" in err
    assert (tmp_path / "my model.npz").read_bytes() == b"precious"
    assert train(folder, tmp_path / "my model.npz", "--steps", "2", "--force") == 0
    assert load_pretrained(tmp_path / "my model.npz")[0].config.vocab_size == 280


def test_a_folder_is_no_file_to_save_to(capsys, folder):
    err = refused(capsys, "train", "--corpus", folder / "pièce.txt", "--out", folder, "--force", *SIZES)
    assert "is a folder" in err and "--resume" not in err


def test_a_model_that_no_memory_holds_is_refused_in_a_sentence(capsys, folder, tmp_path):
    sizes = ["--vocab-size", "280", "--n-embd", "1000000000", "--n-head", "1", "--n-layer", "1"]
    assert "allocate" in refused(capsys, "train", "--corpus", folder / "pièce.txt", "--out", tmp_path / "m.npz", *sizes)


def test_a_folder_of_gpt2s_form_without_its_encoding_says_where_it_can_be_used(capsys, folder, tmp_path):
    save_gpt2(load_pretrained(folder / "modèle un.npz")[0], tmp_path)
    assert "from Python" in refused(capsys, "generate", "hi", "--model", tmp_path)
    assert "is a folder" in refused(capsys, "info", tmp_path)


@pytest.mark.parametrize("options, words", [
    (["--corpus", "missing.txt"], ["missing.txt", "play"]), (["--n-head", "3"], ["n_embd", "n_head"]),
    (["--steps", "0"], ["steps", "0"]),
    (["--vocab-size", "100"], ["257", "100"]), (["--vocab-size", "99999"], ["99999", "at most"]),
    (["--learning-rate", "0"], ["learning_rate"]), (["--seed", "-1"], ["seed"]),
    (["--block-size", "5000"], ["5001"]), (["--dropout", "1"], ["dropout"]), (["--batch-size", "-1"], ["batch_size"]),
    (["--out", "nowhere/a.npz"], ["nowhere"]),
    (["--out", "play"], ["call it play.npz"]), (["--warmup-steps", "-1"], ["warmup_steps"]),
])  # fmt: skip
def test_a_mistake_in_train_is_one_line_and_leaves_no_file(capsys, folder, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    err = refused(capsys, "train", "--corpus", folder / "pièce.txt", "--out", "a.npz", "--steps", "2", *SIZES, *options)
    assert all(word in err for word in words), err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [["--resume", ""], ["--corpus", ""]])
def test_an_empty_name_is_no_default(capsys, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    assert re.search("there is no (model|corpus)", refused(capsys, "train", *options))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no broken pipes of this kind")
def test_training_that_nobody_listens_to_is_no_success(folder, tmp_path):
    options = ["--corpus", folder / "pièce.txt", "--out", tmp_path / "a.npz", *SIZES]
    command = [sys.executable, "-m", "tinygpt_lib", "train", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        process.stderr.close()
        assert process.wait(timeout=30) == 1


@pytest.mark.parametrize("text, first", [
    ("title\nANNA:\nHello", "ANNA:\n"), ("x" * 1000, "x" * 60 + "\n"), ("title\n \n", "\n"), ("title\nno colon\n", "no colon\n"),
])  # fmt: skip
def test_a_sample_begins_with_a_short_line(text, first):
    assert cli._first_line(text) == first


def test_a_finished_model_can_not_be_resumed(capsys, model_file):
    assert "finished" in refused(capsys, "train", "--resume", model_file)


# ---- Ctrl-C


def test_stopping_and_going_on_gives_the_model_that_never_stopped(capsys, folder, tmp_path, monkeypatch):
    options = ["--steps", "12", "--eval-every", "4", "--dropout", "0.1"]
    assert train(folder, tmp_path / "whole.npz", *options) == 0
    save = cli.save_training

    def save_and_press_ctrl_c(*args, **named):
        save(*args, **named)
        monkeypatch.setattr(cli, "save_training", save)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli, "save_training", save_and_press_ctrl_c)
    assert train(folder, tmp_path / "a.npz", *options) == 0
    assert f"--resume {tmp_path / 'a.npz'}" in capsys.readouterr().out
    assert load_training(tmp_path / "a.npz")[0].step == 4
    assert cli.main(["train", "--resume", str(tmp_path / "a.npz")]) == 0
    assert_same_weights(tmp_path / "a.npz", tmp_path / "whole.npz")


def test_ctrl_c_leaves_the_signals_handler_as_it_was(folder, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    assert train(folder, tmp_path / "a.npz", "--steps", "2") == 0
    assert signal.getsignal(signal.SIGINT) is before


def interrupted(*arguments):
    """stdout of a training that gets a SIGINT once its bar shows a loss, and its exit status."""
    command = [sys.executable, "-m", "tinygpt_lib", "train", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        shown = b""
        while b"loss=" not in shown:
            assert (piece := os.read(process.stderr.fileno(), 4096)), shown
            shown += piece
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert b"Traceback" not in err
    return out.decode(), process.returncode


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't send Ctrl-C to one process")
def test_ctrl_c_says_how_to_go_on_and_resume_goes_on(folder, tmp_path):
    out = tmp_path / "my model.npz"
    steps = ["--steps", "500000", "--eval-every", "500000"]
    first, status = interrupted("--corpus", folder / "pièce.txt", "--out", out, *SIZES, *steps)
    assert status == 0 and f"python -m tinygpt_lib train --resume '{out}'" in first
    step = load_training(out)[0].step
    assert f"Stopped after step {step} and saved" in first and step >= 1
    second, status = interrupted("--resume", out)
    assert status == 0 and load_training(out)[0].step > step and "--resume" in second


# ---- info


def test_info_says_what_a_checkpoint_holds(capsys, model_file):
    assert cli.main(["info", model_file]) == 0
    out = capsys.readouterr().out
    parameters = 300 * 8 + 16 * 8 + 2 * 2 * 8 + (8 * 24 + 24) + (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8) + 2 * 8
    words = f"{parameters:,}", "1 layers, 2 heads, 8 channels, context 16", "300 tokens", "by hand"
    assert all(word in out for word in words)


def test_info_reads_a_model_whose_history_is_of_another_kind(capsys, tmp_path):
    model = GPT(GPTConfig(vocab_size=5, block_size=2, n_layer=1, n_head=1, n_embd=2))
    save_checkpoint(tmp_path / "a.npz", model, history=[2.3, 1.9])
    assert cli.main(["info", str(tmp_path / "a.npz")]) == 0 and "5 tokens" in capsys.readouterr().out


def test_info_evaluates_on_the_validation_part(capsys, folder, tmp_path):
    assert train(folder, tmp_path / "a.npz", "--steps", "3") == 0
    trained = re.search(r"Validation loss: (\S+) nats", capsys.readouterr().out)[1]
    assert cli.main(["info", str(tmp_path / "a.npz"), "--evaluate"]) == 0
    again = re.search(r"Validation loss: (\S+) nats", capsys.readouterr().out)[1]
    assert abs(float(trained) - float(again)) < 0.002  # the file's weights are float16


def test_info_refuses_a_corpus_that_has_changed(capsys, tmp_path, play):
    text = tmp_path / "a.txt"
    text.write_text(play[:6000], encoding="utf-8")
    assert cli.main(["train", "--corpus", str(text), "--out", str(tmp_path / "a.npz"), *SIZES, "--steps", "2"]) == 0
    text.write_text(play[:6001], encoding="utf-8")
    capsys.readouterr()
    assert "changed" in refused(capsys, "info", tmp_path / "a.npz", "--evaluate")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 and no more"])
def test_info_on_what_is_no_checkpoint_is_one_line(capsys, tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    assert "a.npz" in refused(capsys, "info", tmp_path / "a.npz")


# ---- resuming, more closely


def test_a_run_that_is_not_there_can_not_be_resumed(capsys):
    assert "missing.npz" in refused(capsys, "train", "--resume", "missing.npz")


def test_resume_takes_no_other_setting(capsys):
    assert "--steps, --seed" in refused(capsys, "train", "--resume", "a.npz", "--steps", "9", "--seed", "1")


def test_a_run_saved_without_its_corpus_goes_on_from_python_only(capsys, tmp_path):
    save_training(tmp_path / "a.npz", TrainState(GPT(GPTConfig(300, 8, 1, 1, 8))))
    assert "corpus" in refused(capsys, "train", "--resume", tmp_path / "a.npz")


def test_info_reads_any_history(capsys, tmp_path):
    save_checkpoint(tmp_path / "a.npz", GPT(GPTConfig(300, 8, 1, 1, 8)), history=[{"step": 1, "loss": 2.0}])
    assert cli.main(["info", str(tmp_path / "a.npz")]) == 0


@pytest.mark.parametrize("name, most", [("shakespeare", 1.47), ("play", 1.40)])
def test_a_shipped_models_loss_is_what_the_readme_says(capsys, request, name, most):
    request.getfixturevalue(name)  # its corpus
    assert cli.main(["info", name, "--evaluate"]) == 0
    loss = float(re.search(r"([\d.]+) nats per character", capsys.readouterr().out)[1])
    assert loss <= most
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if line.startswith("| validation loss"))
    assert f"{loss:.3f}" == row.split("|")[{"shakespeare": 2, "play": 3}[name]].strip()


@pytest.mark.parametrize("name", cli.RECIPES)
def test_the_recipe_is_what_the_shipped_model_was_trained_with(name):
    checkpoint, (config, settings) = read_checkpoint(name), cli.RECIPES[name]
    assert checkpoint.config == config and checkpoint.info["command"].startswith(f"python -m tinygpt_lib train --corpus {name}")
    assert "--" not in checkpoint.info["command"].split("--corpus ")[1].split("--out")[0]
    for key in ("steps", "batch_size", "learning_rate", "seed"):
        assert checkpoint.info[key] == getattr(settings, key)
