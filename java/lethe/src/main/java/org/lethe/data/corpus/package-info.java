/** A seeded corpus of fictitious people with its general-knowledge set and its own tokenizer. */
package org.lethe.data.corpus;
