/**
 * Rows, tokens and their order: question/answer files, the tokenizer, prompt templates, pairing,
 * refusal lines. Knows nothing of devices.
 */
package org.lethe.data;
