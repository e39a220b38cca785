package org.lethe.bench.share;

import java.lang.instrument.ClassFileTransformer;
import java.lang.instrument.Instrumentation;
import java.security.ProtectionDomain;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.ClassVisitor;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.Type;

/**
 * A Java agent that puts a clock around each native function of {@code lethe.h}: the function is
 * renamed, and a Java method of its name reads the clock, calls it, and reads the clock again. The
 * product itself stays as it is.
 *
 * <p>Counts one thread, the one that called {@link #start} last: an engine's native work is called
 * from one thread. What is outside the clocks is Java's, the clocks' own cost included.
 */
public final class NativeClock implements ClassFileTransformer {
  private static final String BINDING = "org/lethe/internal/abi/Abi";
  private static final String PREFIX = "unclocked_";
  private static final String SELF = Type.getInternalName(NativeClock.class);

  // Static since the rewritten class can reach nothing else; confined to the counted thread.
  private static Thread counted;
  private static long nanos;
  private static long calls;
  private static volatile boolean installed;

  private NativeClock() {}

  /** Called by the JVM before {@code main}. */
  public static void premain(String arguments, Instrumentation instrumentation) {
    NativeClock clock = new NativeClock();
    instrumentation.addTransformer(clock);
    instrumentation.setNativeMethodPrefix(clock, PREFIX);
  }

  /** Counts the calling thread from 0. */
  public static void start() {
    if (!installed) {
      throw new IllegalStateException(
          "the binding was loaded without its clocks; start the JVM with -javaagent");
    }
    counted = Thread.currentThread();
    nanos = 0;
    calls = 0;
  }

  /** Nanoseconds in native functions since {@link #start}. */
  public static long nanos() {
    return nanos;
  }

  /** Calls since {@link #start}. */
  public static long calls() {
    return calls;
  }

  /** Called by the rewritten binding. */
  public static void add(long taken) {
    if (Thread.currentThread() == counted) {
      nanos += taken;
      calls++;
    }
  }

  @Override
  public byte[] transform(
      ClassLoader loader, String name, Class<?> redefined, ProtectionDomain domain, byte[] bytes) {
    if (!BINDING.equals(name)) {
      return null;
    }
    ClassReader reader = new ClassReader(bytes);
    ClassWriter writer = new ClassWriter(reader, ClassWriter.COMPUTE_MAXS);
    reader.accept(new Clocked(writer), 0);
    installed = true;
    return writer.toByteArray();
  }

  /** Adds a method with a clock for each native one, which it renames. */
  private static final class Clocked extends ClassVisitor {
    Clocked(ClassVisitor next) {
      super(Opcodes.ASM9, next);
    }

    @Override
    public MethodVisitor visitMethod(
        int access, String name, String descriptor, String signature, String[] exceptions) {
      if ((access & Opcodes.ACC_NATIVE) == 0) {
        return super.visitMethod(access, name, descriptor, signature, exceptions);
      }
      int open = access & ~Opcodes.ACC_NATIVE;
      clock(super.visitMethod(open, name, descriptor, signature, exceptions), name, descriptor);
      return super.visitMethod(access, PREFIX + name, descriptor, signature, exceptions);
    }

    /** start = nanoTime(); result = unclocked(arguments); add(nanoTime() - start); result */
    private static void clock(MethodVisitor code, String name, String descriptor) {
      Type[] parameters = Type.getArgumentTypes(descriptor);
      Type result = Type.getReturnType(descriptor);
      int start = 0;
      for (Type parameter : parameters) {
        start += parameter.getSize();
      }
      code.visitCode();
      nanoTime(code);
      code.visitVarInsn(Opcodes.LSTORE, start);
      int at = 0;
      for (Type parameter : parameters) {
        code.visitVarInsn(parameter.getOpcode(Opcodes.ILOAD), at);
        at += parameter.getSize();
      }
      code.visitMethodInsn(Opcodes.INVOKESTATIC, BINDING, PREFIX + name, descriptor, false);
      nanoTime(code);
      code.visitVarInsn(Opcodes.LLOAD, start);
      code.visitInsn(Opcodes.LSUB);
      code.visitMethodInsn(Opcodes.INVOKESTATIC, SELF, "add", "(J)V", false);
      code.visitInsn(result.getOpcode(Opcodes.IRETURN));
      code.visitMaxs(0, 0);
      code.visitEnd();
    }

    private static void nanoTime(MethodVisitor code) {
      code.visitMethodInsn(Opcodes.INVOKESTATIC, "java/lang/System", "nanoTime", "()J", false);
    }
  }
}
