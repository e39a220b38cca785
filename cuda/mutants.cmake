# The faults that are planted (tests.cmake has the functions): for each kernel a barrier that is dropped where it has one, a
# tail that is off by one, and what else a kernel of its kind gets wrong. Their tests must fail.

# ---- the head's row kernel ----
add_mutant(head_store_barrier_dropped head_look.cuh "/loads of tiles/s/__syncthreads();//")
add_mutant(head_store_barrier_once head_look.cuh "/loads of tiles/s/(tile & (tile + 1)) == 0/tile == 0/")
add_mutant(head_written_barrier_dropped common.cuh "/partial is written/s/__syncthreads();//")
add_mutant(head_largest_barrier_dropped common.cuh "/largest is written/s/__syncthreads();//")
add_mutant(head_tail_short head_look.cuh "s/begin + i < V ? from/begin + i < V - 1 ? from/")
add_mutant(head_tail_long head_look.cuh "s/begin + i < V) row/begin + i <= V) row/")
add_mutant(head_finished_barrier_dropped head_rows.cu "/logits are written/s/__syncthreads();//")
add_mutant(head_cap_slope_dropped head_look.cuh "s/m.scale . m.cap.slope(z.i.) ./m.scale */")
add_mutant(head_cap_difference head_logits.cuh "s/cap . s . ((1.0f - t) . (1.0f + t))/cap * s/")
add_mutant(head_mix_sign head_logits.cuh "s/d -= mix ./d += mix */")
add_mutant(head_mix_from_policy head_logits.cuh "s/cap.difference(u + .delta, rises/cap.difference(u, rises/")
add_mutant(head_label_shift_sign head_logits.cuh "s/d - label_shift/d + label_shift/")
add_mutant(head_smoothed_ratio head_look.cuh "s/p . m.mean_ratio - p/p - p/")
add_mutant(head_margin_sign head_look.cuh "s/: -m.uniform;/: m.uniform;/")
add_mutant(head_sign head_look.cuh "s/m.mean_delta - delta . m.beta/delta * m.beta - m.mean_delta/")

# ---- the same with the row on chip, in clusters ----
add_mutant(onchip_cluster_barrier_dropped head_rows_onchip.cu "/all blocks' sums are there/s/cluster_sync();//" 4)
add_mutant(onchip_block_barrier_dropped head_rows_onchip.cu "/all blocks' sums are here/s/__syncthreads();//" 4)
add_mutant(onchip_end_unmet head_rows_onchip.cu "/it may end/s/cluster_sync();/static_cast<void>(0);/" 2)
add_mutant(onchip_rank_wrong head_rows_onchip.cu "s/cluster_shared(meeting, threadIdx.x)/cluster_shared(meeting, 0)/" 4)
add_mutant(onchip_part_short head_rows_onchip.cu "s/: c.begin + each;/: c.begin + each - 1;/" 2)
add_mutant(onchip_tail_short head_rows_onchip.cu "s/begin + i < c.V) to/begin + i < c.V - 1) to/" 1)
add_mutant(onchip_memory_unasked launch.cuh "s/if (bytes == 0) return/if (bytes <= size_t{48} << 10) return/" 1)
add_mutant(onchip_copy_unwaited head_rows_onchip.cu "s/copies_wait<0>();/copies_wait<1>();/" 1)

# ---- ops ----
# One or two a kernel in every build; the rest with -DLETHE_ALL_FAULTS=ON (Maven profile faults): each is a build of its own.
add_op_mutant(activation_tail_short activation activation.cu "s/in_piece<T>(f - column)/in_piece<T>(f - column - 1)/"
  activation.cu)
add_op_mutant(adamw_last_unseen update update.cu "s/else if (n > 0)/else if (n > 1)/" update.cu)
add_op_mutant(adamw_part_maps_barrier_dropped update_part update_part.cu
  "/the step and the maps are written/s/__syncthreads();//" update_part.cu)
add_op_mutant(adamw_part_tail_short update_part update_part.cu
  "s/in_piece<bf16>(a.n - at)/in_piece<bf16>(a.n - at - 1)/" update_part.cu)
add_op_mutant(augmented_tail_short linear linear_augmented.cu "s/in_piece<T>(r.width - column), left/in_piece<T>(r.width - column - 1), left/"
  linear_augmented.cu)
add_op_mutant(attention_counts_barrier_dropped attention attention_plan.cu
  "/counts are sums over twice/s/__syncthreads();//" attention_plan.cu)
add_op_mutant(attention_keys_tail_short attention attention_mma.cuh
  "s/begin + r < end ?/begin + r < end - 1 ?/" attention_forward.cu)
add_op_mutant(attention_values_barrier_dropped attention attention_forward.cu
  "/values are there/s/__syncthreads();//" attention_forward.cu)
add_op_mutant(embedding_tail_short rows embedding.cu "s/from + i < a.T/from + i < a.T - 1/" embedding.cu)
add_op_mutant(gemm_split_taken linear gemm.cu "s/split <= 1 &&//" gemm.cu)
add_op_mutant(gradient_norm_barrier_dropped update update.cu "/who is last is known/s/__syncthreads();//" update.cu)
add_op_mutant(graph_of_failed_calls graph graph.cu "s/failed = device->capture_failed/failed = false/" graph.cu)
add_op_mutant(head_chunk_unbounded head_tune head_plan.cu "s/std::min(most, chosen->second.rows)/most/" head_plan.cu)
add_op_mutant(head_fused_power_of_another_tile head_fused head_fused_rows.cu "s/scale.power(parts.tile..max, mean)/scale.power(parts[0].max, mean)/"
  head_fused_rows.cu)
add_op_mutant(head_fused_stage_barrier_dropped head_fused head_fused.cuh "/the stage is there/s/__syncthreads();//"
  head_fused_gradient.cu head_fused_logits.cu)
add_op_mutant(head_fused_tail_short head_fused head_fused_tile.cuh "s/if (at >= left ||/if (at >= left - 1 ||/"
  head_fused_logits.cu head_fused_wgmma_logits.cu)
add_op_mutant(head_fused_wgmma_labels_barrier_dropped head_fused head_fused_wgmma_labels.cu "/the rows are there/s/__syncthreads();//"
  head_fused_wgmma_labels.cu)
add_op_mutant(head_fused_wgmma_labels_unshown head_fused head_fused_wgmma_labels.cu "s/show_stores();//"
  head_fused_wgmma_labels.cu)
add_op_mutant(head_fused_wgmma_barriers_unshown head_fused head_fused_wgmma.cuh "s/mbarriers_made();//"
  head_fused_wgmma_gradient.cu head_fused_wgmma_logits.cu)
add_op_mutant(head_fused_wgmma_power_of_the_tile_before head_fused head_fused_wgmma_gradient.cu "s/power = next;//"
  head_fused_wgmma_gradient.cu)
add_op_mutant(head_fused_wgmma_released_early head_fused head_fused_wgmma_logits.cu "s/wgmma_wait<1>();/wgmma_wait<2>();/"
  head_fused_wgmma_logits.cu)
add_op_mutant(head_mean_tail head_pass head_sums.cu "s/begin + kPartRows : V;/begin + kPartRows : V - 1;/" head_sums.cu)
add_op_mutant(head_plan_barrier_dropped head_pass head_plan.cu "/all rows are looked at/s/__syncthreads();//" head_plan.cu)
add_op_mutant(head_weights_barrier_dropped head_sample head_sample.cu "/weights are written/s/__syncthreads();//"
  head_sample.cu)
add_op_mutant(index_bound_late rows index.cu "s/index.i. >= bound/index[i] > bound/" index.cu)
add_op_mutant(linear_sums_barrier_dropped linear linear_bias.cu "/sums are written/s/__syncthreads();//" linear_bias.cu)
add_op_mutant(linear_split_last_unseen linear linear_ranks.cu "s/split < splits; ++split/split < splits - 1; ++split/"
  linear_ranks.cu)
add_op_mutant(masked_tiles_barrier_dropped linear dropout.cu "/tiles are written/s/__syncthreads();//" dropout.cu)
add_op_mutant(memory_direction_named aside memory.cu "/(src) + done/,+1s/cudaMemcpyDefault/cudaMemcpyDeviceToHost/"
  memory.cu)
add_op_mutant(nf4_largest_barrier_dropped quantize nf4.cu "/largest are written/s/__syncthreads();//" nf4.cu)
add_op_mutant(norm_tail_long norm norm.cuh "s/: k) < left/: k) <= left/" norm.cu)
add_op_mutant(norm_teams_barrier_dropped norm norm.cu "/the teams' sums are written/s/__syncthreads();//" norm.cu)
add_op_mutant(random_tail_short random random_normal.cu "s/at + k < n)/at + k < n - 1)/" random_normal.cu)
add_op_mutant(rotary_tail_short rotary rotary.cu "s/in_piece<T>(half - column)/in_piece<T>(half - column - 1)/" rotary.cu)
add_op_mutant(rows_tail_long rows rows.cu "s/in_piece<T>(a.width - column)/in_piece<T>(a.width - column + 1)/" rows.cu)
add_op_mutant(sort_counted_barrier_dropped rows sort.cu "/the tile is counted/s/__syncthreads();//" sort.cu)

if(NOT LETHE_ALL_FAULTS)
  return()
endif()
add_op_mutant(augmented_rank_last_unseen linear linear_augmented.cu
  "s/rank >= p.rank) continue/rank >= p.rank - 1) continue/" linear_augmented.cu)
add_op_mutant(augmented_columns_unmoved linear linear_augmented.cu "s/ : rank < r.right_width/ : rank + 1 < r.right_width/"
  linear_augmented.cu)
add_op_mutant(augmented_spare_row_unseen linear linear_augmented.cu
  "s/row >= p.column + p.rank) continue/row + 1 >= p.column + p.rank) continue/" linear_augmented.cu)
add_op_mutant(linear_batch_unequal linear linear_runs.cuh "s/last->memory == join.memory/join.memory > 0/" linear.cu)
add_op_mutant(adamw_decays_one_more update update.cu "s/first + i < a.n_decay/first + i <= a.n_decay/" update.cu)
add_op_mutant(adamw_part_draws_of_the_next update_part update_part.cu
  "s/static_cast<uint64_t>(a.first + at)/static_cast<uint64_t>(at)/" update_part.cu)
add_op_mutant(adamw_part_small_moment_0 update_part update_part.cu "s/code == 0 ? 1 : code/code == 0 ? 0 : code/"
  update_part.cu)
add_op_mutant(attention_decode_barrier_dropped attention attention_decode.cu
  "/all warps' sums are there/s/__syncthreads();//" attention_decode.cu)
add_op_mutant(attention_diagonal_long attention attention_mma.cuh
  "s/key < visible; }/key <= visible; }/" attention_backward.cu attention_decode.cu attention_forward.cu)
add_op_mutant(attention_forward_copy_unwaited attention attention_forward.cu "s/copies_wait<0>();/copies_wait<1>();/"
  attention_forward.cu)
add_op_mutant(attention_gaps_kept attention attention_plan.cu "s/if (c.plan->covered) return;/return;/"
  attention_plan.cu)
add_op_mutant(attention_plain_barrier_dropped attention attention_plain.cu
  "/slices are there/s/__syncthreads();//" attention_plain.cu)
add_op_mutant(attention_stage_barrier_dropped attention attention_mma.cuh
  "/the stage is there/s/meet<kThreads>();//" attention_backward.cu attention_decode.cu)
add_op_mutant(attention_stage_overwritten attention attention_mma.cuh
  "/the stage may be overwritten/s/meet<kThreads>();//" attention_backward.cu attention_decode.cu)
add_op_mutant(head_bias_gradient_tail head head_sums.cu "s/row < rows; ++row/row < rows - 1; ++row/" head_sums.cu)
add_op_mutant(head_delta_sign head head.cu "s/other.at(k) - x.at(k)/x.at(k) - other.at(k)/" head.cu)
add_op_mutant(head_equal_weights head_sample head_sample.cu "s/v <= last/v < last/" head_sample.cu)
add_op_mutant(head_first_off_by_one head_pass head_combine.cu "s/keys.middle. < source/keys[middle] <= source/"
  head_combine.cu)
add_op_mutant(head_fused_cut_short head_fused head_fused_gradient.cu "s/v + r < c.V/v + r < c.V - 1/"
  head_fused_gradient.cu)
add_op_mutant(head_fused_halves_swapped head_fused head_fused_gradient.cu "s/powers.place.row_of(i, 1)./powers[place.row_of(i, 0)]/"
  head_fused_gradient.cu)
add_op_mutant(head_fused_largest_barrier_dropped head_fused head_fused_logits.cu "/the largest are there/s/__syncthreads();//"
  head_fused_logits.cu)
add_op_mutant(head_fused_mean_left_out head_fused head_fused_rows.cu "s/kept.unit . kept.sum + of_label/of_label/" head_fused_rows.cu)
add_op_mutant(head_fused_sums_barrier_dropped head_fused head_fused_logits.cu "/the sums are there/s/__syncthreads();//"
  head_fused_logits.cu)
add_op_mutant(head_fused_wgmma_box_stride head_fused head_fused_wgmma_gradient.cu "s/kBox, kSwizzleTile)/kSwizzleTile, kBox)/"
  head_fused_wgmma_gradient.cu)
add_op_mutant(head_fused_wgmma_empty_unwaited head_fused head_fused_wgmma.cuh "s/mbarrier_wait(ring.empty + turn->stage, turn->parity . 1u);//"
  head_fused_wgmma_gradient.cu head_fused_wgmma_logits.cu)
add_op_mutant(head_fused_wgmma_end_unmet head_fused head_fused_wgmma_logits.cu "s/ring.meet();//" head_fused_wgmma_logits.cu)
add_op_mutant(head_fused_wgmma_fewer_bytes_expected head_fused head_fused_wgmma.cuh "s/turn->stage, kStageBytes);/turn->stage, kRightBytes);/"
  head_fused_wgmma_gradient.cu head_fused_wgmma_logits.cu)
add_op_mutant(head_fused_wgmma_full_unwaited head_fused head_fused_wgmma_logits.cu "s/mbarrier_wait(ring.full + turn->stage, turn->parity);//"
  head_fused_wgmma_logits.cu)
add_op_mutant(head_fused_wgmma_gradient_released_early head_fused head_fused_wgmma_gradient.cu "s/wgmma_wait<1>();/wgmma_wait<2>();/"
  head_fused_wgmma_gradient.cu)
add_op_mutant(head_fused_wgmma_gradient_released_unread head_fused head_fused_wgmma_gradient.cu "s/ring.release(1);//;s/if (tile > 0) ring.release(3);/ring.release(1);&/"
  head_fused_wgmma_gradient.cu)
add_op_mutant(head_fused_wgmma_labels_shown_late head_fused head_fused_wgmma_labels.cu "s/show_stores();//;/the rows are there/s/__syncthreads();/__syncthreads();show_stores();/"
  head_fused_wgmma_labels.cu)
add_op_mutant(head_fused_wgmma_labels_tail head_fused head_fused_wgmma_labels.cu "s/from < d ?/from < d - 8 ?/"
  head_fused_wgmma_labels.cu)
add_op_mutant(head_fused_wgmma_pair_unasked head_fused head_fused_wgmma.cuh "s/kWarp . cluster_size());/kWarp);/;s/rank < cluster_size(); ++rank) mbarrier_arrive_at(empty + stage, rank)/rank < 1; ++rank) mbarrier_arrive(empty + stage)/"
  head_fused_wgmma_gradient.cu head_fused_wgmma_logits.cu)
add_op_mutant(head_fused_wgmma_parity_kept head_fused head_fused_wgmma.cuh "s/parity ^= 1u;//" head_fused_wgmma_gradient.cu
  head_fused_wgmma_logits.cu)
add_op_mutant(head_fused_wgmma_parity_of_one_tile head_fused head_fused_wgmma_gradient.cu "s/static_cast<unsigned>(tile) & 1u/0u/"
  head_fused_wgmma_gradient.cu)
add_op_mutant(head_fused_wgmma_tile_stride head_fused wgmma.cuh "s/(address, 16, kSwizzleTile)/(address, 16, 512)/"
  head_fused_wgmma_logits.cu)
add_op_mutant(head_fused_wgmma_unswizzled head_fused wgmma.cuh "s/((piece ^ (row & 7)) << 4)/(piece << 4)/"
  head_fused_wgmma_gradient.cu)
add_op_mutant(head_tiles_of_the_logits head_tune head.cu "s/g.tiles = choice.tiles.product./g.tiles = choice.tiles[kLogits]/" head.cu)
add_op_mutant(head_tiles_unmeasured head_tune head_tune.cu "s/args, tiles, /args, {0}, /" head_tune.cu)
add_op_mutant(gemm_tiles_unheard head_tune gemm.cu "s/|| choice->count == g.tiles//" gemm.cu)
add_op_mutant(head_gather_tail head_pass head.cu "s/in_piece<T>(g.d - column)/in_piece<T>(g.d - 1 - column)/" head.cu)
add_op_mutant(linear_chunk_last_unseen linear linear_bias.cu "s/chunk < chunks; ++chunk/chunk < chunks - 1; ++chunk/"
  linear_bias.cu)
add_op_mutant(linear_gap_short linear linear.cu "s/slice.first, a.adapted))/slice.first, a.adapted - 1))/" linear.cu)
add_op_mutant(masked_mask_inverted linear dropout.cu "s/threshold ? 1.0f : 0.0f/threshold ? 0.0f : 1.0f/" dropout.cu)
add_op_mutant(masked_row_last_unseen linear dropout.cu "s/row + r < rows;/row + r < rows - 1;/" dropout.cu)
add_op_mutant(nf4_row_end_missed linear_nf4 nf4.cu "s/++place.column == place.width/++place.column > place.width/" nf4.cu)
add_op_mutant(nf4_tail_short quantize nf4.cu "s/2 . i < left/2 * i + 1 < left/" nf4.cu)
add_op_mutant(gradient_norm_chunk_unseen update update.cu "s/i < chunks; i += kSum/i < chunks - 1; i += kSum/" update.cu)
add_op_mutant(norm_strips_barrier_dropped norm norm.cu "/the strips are written/s/__syncthreads();//" norm.cu)
add_op_mutant(norm_wide_tail_short norm norm_wide.cuh "s/in_piece<T>(d - at)/in_piece<T>(d - at - 1)/" norm.cu)
add_op_mutant(part_norm_chunk_last_unseen update_part update_part.cu
  "s/i < chunks; i += kTotal/i < chunks - 1; i += kTotal/" update_part.cu)
add_op_mutant(part_squares_tail_short update_part update_part.cu "s/: n;/: n - 1;/" update_part.cu)
add_op_mutant(rows_looked_barrier_dropped rows rows.cu "/all have looked/s/__syncthreads();//" rows.cu)
add_op_mutant(sort_rank_reversed rows sort.cu "s/__popc(same & ((1u << lane) - 1))/__popc(same >> lane) - 1/" sort.cu)
