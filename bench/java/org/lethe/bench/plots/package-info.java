/** Pictures of committed results. */
package org.lethe.bench.plots;
