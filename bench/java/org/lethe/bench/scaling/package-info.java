/** How cost grows with each size of a step, and where it stops growing in proportion. */
package org.lethe.bench.scaling;
