package org.lethe.engine;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.lethe.Hashes;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.data.Example;
import org.lethe.data.Jsonl;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.data.corpus.Corpus;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.LoraConfig;
import org.lethe.run.FineTune;
import org.lethe.run.RunListener;
import org.lethe.train.Schedule;
import org.lethe.train.TrainSettings;

/** A model of one layer that has seen a few rows, with the rows beside it. */
record TinyModel(Path directory, Path forgetFile, Path retainFile) {
  /** Makes it below {@code root}, in about a second. */
  static TinyModel make(Path root, long seed) {
    assertTrue(Files.isDirectory(root) || root.toFile().mkdirs());
    Corpus corpus = Corpus.generate(seed, 3);
    Path forget = root.resolve("forget.jsonl");
    Path retain = root.resolve("retain.jsonl");
    Path tokenizer = root.resolve("tokenizer");
    Corpus.writeRows(forget, corpus.forget(0.3).subList(0, 6));
    Corpus.writeRows(retain, corpus.retain(0.3).subList(0, 9));
    BpeTrainer.train(corpus.texts(), 600).write(tokenizer);
    List<String> keys =
        List.of(
            "output=" + root.resolve("tuned"),
            "seed=" + seed,
            "threads=1",
            "scratch.hidden_size=32",
            "scratch.layers=1",
            "scratch.heads=4",
            "scratch.kv_heads=2",
            "scratch.feed_forward_size=64",
            "scratch.context_length=128",
            "scratch.tokenizer=" + tokenizer,
            "data.train=[" + forget + "," + retain + "]",
            "train.epochs=4",
            "train.learning_rate=3e-3");
    FineTune.run(Config.of(RunConfig.class, keys), RunListener.NONE);
    return new TinyModel(root.resolve("tuned/model"), forget, retain);
  }

  List<Example> forget() {
    return Jsonl.read(forgetFile);
  }

  List<Example> retain() {
    return Jsonl.read(retainFile);
  }

  /** Unlearning {@link #forget} by a small adapter. */
  TrainingBuilder unlearn(LanguageModel model, int steps) {
    return model
        .unlearn(Methods.create(MethodConfig.of("NPO+GD")), forget(), retain())
        .adapter(LoraConfig.all(2, 4))
        .batchSize(3)
        .settings(TrainSettings.of(steps, 5e-3, Schedule.CONSTANT, 0));
  }

  /** SHA-256 of the adapter that a training left, which is saved in {@code target}. */
  static String adapter(LanguageModel model, Path target) throws IOException {
    model.saveAdapter(target);
    return Hashes.sha256(Files.readAllBytes(target.resolve("adapter_model.safetensors")));
  }
}
