package org.lethe.kernels;

/** AdamW (Loshchilov and Hutter 2019): decay rates of both moments, eps, decoupled weight decay. */
public record AdamWSettings(float beta1, float beta2, float eps, float weightDecay) {}
