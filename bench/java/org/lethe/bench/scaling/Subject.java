package org.lethe.bench.scaling;

import org.lethe.kernels.Ops;

/** Something whose cost is measured at points of different sizes. */
interface Subject {
  /** As results call it. */
  String name();

  /** What is fixed at a curve's points, in words. */
  String shape(Sizes sizes);

  /** Bytes that it will take on the device, known before anything is allocated. */
  long bytes(Ops ops, Sizes sizes);

  /** Floating-point operations of one call. */
  double flops(Sizes sizes);

  /** Takes the memory and fills it. */
  Prepared prepare(Ops ops, Sizes sizes);

  /** Ready to be called. */
  interface Prepared extends AutoCloseable {
    /** One call; returns when it is asked for, not when it is done. */
    void call();

    /**
     * Compares some outputs of the calls made with double-precision arithmetic.
     *
     * @throws org.lethe.InternalFaultException when they differ by more than rounding allows
     */
    void check();

    @Override
    void close();
  }
}
