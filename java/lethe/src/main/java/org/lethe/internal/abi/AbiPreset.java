package org.lethe.internal.abi;

import org.bytedeco.javacpp.annotation.NoException;
import org.bytedeco.javacpp.annotation.Platform;
import org.bytedeco.javacpp.annotation.Properties;
import org.bytedeco.javacpp.tools.Info;
import org.bytedeco.javacpp.tools.InfoMap;
import org.bytedeco.javacpp.tools.InfoMapper;

/**
 * Tells JavaCPP how to read {@code lethe.h}. The class it generates, {@code Abi}, is never
 * committed.
 *
 * <p>The backends and the libraries they need are not linked here: {@code Natives} unpacks them and
 * liblethe opens them.
 */
@NoException
@Properties(
    value =
        @Platform(value = "linux-x86_64", include = "lethe.h", link = "lethe", compiler = "cpp17"),
    target = "org.lethe.internal.abi",
    global = "org.lethe.internal.abi.Abi")
public class AbiPreset implements InfoMapper {
  @Override
  public void map(InfoMap map) {
    map.put(new Info("LETHE_H", "LETHE_API").cppTypes().annotations().skip());
    map.put(new Info("lethe_engine").pointerTypes("EngineHandle"));
    // The parser's own texts for out-parameters of pointers use a raw PointerPointer.
    map.put(
        new Info("lethe_engine_open")
            .javaText(
                "public static native int lethe_engine_open(String backend, String plugin_dir, int"
                    + " threads, @ByPtrPtr EngineHandle engine);"));
    map.put(
        new Info("lethe_stream")
            .javaText(
                "public static native int lethe_stream(EngineHandle engine, @Cast(\"void**\")"
                    + " @ByPtrPtr Pointer stream);"));
    map.put(
        new Info("lethe_address")
            .javaText(
                "public static native int lethe_address(EngineHandle engine, @Cast(\"lethe_ref\")"
                    + " long ref, @Cast(\"int64_t\") long bytes, @Cast(\"void**\") @ByPtrPtr"
                    + " Pointer address);"));
    map.put(new Info("lethe_status", "lethe_dtype").cast().valueTypes("int"));
    map.put(new Info("lethe_linear").cast().valueTypes("long").pointerTypes("LongPointer"));
    map.put(new Info("lethe_graph").cast().valueTypes("long").pointerTypes("LongPointer"));
    map.put(new Info("lethe_ref").cast().valueTypes("long").pointerTypes("LongPointer"));
  }
}
