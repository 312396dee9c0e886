"""What the quick suite runs of expensive tests; `make test-slow` runs the rest.

A test is listed if all of its parameters together take more than about five CPU seconds, and a
kin of it stays in the quick suite. The number is how many of its parameters `make test` runs,
spread evenly over them; 0 leaves the whole test to the slow ones. Durations: `pytest
--durations=100 -m "not slow"`.
"""

PARAMETERS = {
    "tests/app/exporting/test_export.py": {
        "test_a_keras_file_loads_after_the_layers_are_imported": 0,
        "test_tags_are_exported_too": 0,
        "test_tags_of_another_order_are_an_error": 0,
        "test_a_litert_tagger_answers_as_the_version": 0,
        "test_other_answers_are_an_error": 0,
    },
    "tests/app/serving/demo/test_http.py": {
        "test_every_file_of_the_page_is_sent_with_a_strict_policy": 1,
    },
    "tests/app/serving/test_bulk.py": {
        "test_a_run_that_is_killed_at_any_moment_ends_with_the_same_bytes": 0,
    },
    "tests/app/serving/test_client.py": {
        "test_a_server_gives_the_responses_of_a_local_version": 1,
        "test_a_server_gives_the_entities_of_a_local_version": 0,
        "test_rows_have_the_values_and_types_of_a_local_version": 0,
        "test_the_command_needs_no_local_model": 0,
        "test_a_figure_is_the_same_as_with_a_local_version": 0,
        "test_the_client_is_not_imported_without_a_server": 0,
    },
    "tests/app/serving/test_compatibility.py": {
        "test_every_setting_passes": 1,
        "test_versions_with_more_signatures_pass_and_have_them": 0,
    },
    "tests/app/serving/test_paths.py": {
        "test_a_version_is_used_in_a_folder_of_any_name": 3,
    },
    "tests/app/serving/test_session.py": {
        "test_every_cell_can_be_exported": 1,
        "test_predict_reads_standard_input_and_prints_json": 0,
        "test_a_moved_version_runs_in_a_process_with_tensorflow_alone": 0,
        "test_predict_accepts_arguments_of_any_bytes": 0,
    },
    "tests/app/serving/test_streaming.py": {
        "test_a_stream_of_tags_has_those_of_the_whole_text": 0,
        "test_a_stream_of_a_source_ends_with_the_translation_of_the_whole_text": 0,
        "test_concurrent_clients_whose_requests_are_merged_have_their_own_tags": 0,
        "test_a_stream_of_a_class_ends_with_that_of_the_whole_text": 1,
        "test_a_client_notices_other_responses": 0,
        "test_a_long_piece_is_read_in_several_requests": 0,
        "test_a_stream_continues_from_its_state": 0,
        "test_the_warm_up_requests_have_valid_states": 0,
        "test_predict_prints_the_lines_that_it_prints_for_whole_lines": 0,
        "test_predict_prints_the_translation_of_a_line_when_it_ends": 0,
    },
    "tests/app/serving/test_uncalibrated.py": {
        "test_probabilities_are_those_without_the_temperature": 1,
    },
    "tests/app/serving/test_warmup.py": {
        "test_photographs_are_scaled_down": 0,
        "test_the_rows_of_a_large_request_are_cut": 0,
        "test_every_request_is_replayed": 0,
    },
    "tests/app/studies/test_gradients.py": {
        "test_the_page_has_its_pictures_and_numbers": 0,
        "test_the_network_is_measured_at_the_start_and_after_training": 1,
    },
    "tests/app/test_cache.py": {
        "test_training_marks_what_it_uses": 0,
    },
    "tests/app/test_captioning.py": {
        "test_every_setting_can_be_trained_and_served": 0,
        "test_a_moved_version_runs_in_a_process_with_tensorflow_alone": 0,
        "test_encoder_weights_in_the_legacy_format_of_keras_can_be_read": 0,
    },
    "tests/app/core/test_config_file.py": {
        "test_a_record_and_its_command_repeat_a_run": 0,
    },
    "tests/app/test_deploy.py": {
        "test_the_check_replays_the_warm_up_requests": 0,
    },
    "tests/app/test_entities.py": {
        "test_served_tags_are_well_formed_in_the_scheme_of_the_data": 1,
        "test_the_entities_signature_has_the_spans_of_the_tags": 0,
        "test_entities_of_responses_are_those_of_the_network": 0,
    },
    "tests/app/test_hostile_flags.py": {
        "test_every_flag_rejects_or_accepts_what_has_failed_before": 3,
        "test_no_value_of_a_flag_ends_in_a_traceback": 8,
    },
    "tests/app/test_look.py": {
        "test_every_task_can_be_inspected": 1,
        "test_the_maps_of_every_equation_are_plotted_by_name": 8,
    },
    "tests/app/serving/test_model_name.py": {
        "test_a_model_is_trained_and_published_under_its_name": 0,
        "test_every_command_finds_the_task_of_a_name": 0,
    },
    "tests/app/test_study.py": {
        "test_a_killed_study_resumes_and_repeats_no_experiment": 0,
        "test_training_on_a_probe_depends_on_its_seed_alone_and_learns": 0,
        "test_trees_are_trained_on_the_examples_of_sequences": 0,
    },
    "tests/app/test_tagging.py": {
        "test_tags_of_entities_are_evaluated_and_monitored_as_entities": 0,
        "test_the_epoch_with_the_best_accuracy_is_published": 0,
        "test_words_without_characters_or_case_folding_can_be_trained": 0,
        "test_a_cell_of_each_equation_can_be_exported": 0,
        "test_lemmas_are_served_as_lemmas_also_of_unseen_words": 0,
    },
    "tests/app/test_targets.py": {
        "test_a_version_of_labels_has_their_signature_and_can_be_served": 0,
        "test_scores_of_served_labels_are_those_of_scikit_learn": 0,
        "test_labels_are_evaluated_and_inspected": 0,
        "test_scores_of_served_numbers_are_those_of_scikit_learn": 0,
        "test_numbers_are_served_in_their_unit_and_range": 0,
        "test_labels_are_predicted_alike_here_and_on_a_server": 0,
        "test_a_network_of_labels_is_loaded_for_reuse": 0,
        "test_a_version_is_continued_and_compared": 0,
        "test_versions_of_different_targets_are_not_compared": 0,
    },
    "tests/app/test_train.py": {
        "test_the_same_command_after_a_finished_run_makes_a_new_version": 0,
        "test_a_threshold_is_served_without_training": 0,
        "test_other_precisions_train_and_are_served_in_float32": 0,
        "test_a_run_killed_after_fitting_is_only_published": 0,
        "test_a_run_killed_within_an_epoch_does_that_epoch_again": 0,
        "test_a_run_killed_after_an_epoch_goes_on_as_if_nothing_had_happened": 0,
    },
    "tests/app/test_translation.py": {
        "test_every_setting_can_be_trained_and_served": 0,
        "test_each_epoch_shows_translations_and_bleu_can_be_monitored": 0,
        "test_a_moved_version_runs_in_a_process_with_tensorflow_alone": 0,
        "test_pairs_of_unequal_length_are_skipped_and_counted_in_train_only": 0,
        "test_the_keras_model_can_be_loaded_in_another_process": 0,
    },
    "tests/app/training/test_batches.py": {
        "test_order_is_a_function_of_the_seed_and_the_pass": 1,
        "test_training_goes_on_from_any_step_as_if_it_had_never_stopped": 1,
        "test_shares_of_a_batch_are_the_batch_and_no_row_is_in_two": 1,
        "test_a_pass_has_every_example_once_within_the_budget": 4,
    },
    "tests/app/training/test_bpe_dropout.py": {
        "test_training_goes_on_from_any_step_with_the_same_segmentations": 0,
        "test_replicas_draw_their_own_segmentations": 0,
    },
    "tests/app/training/test_continuation.py": {
        "test_a_continued_network_answers_as_before_its_first_step": 0,
        "test_weights_move_with_their_classes": 0,
        "test_frozen_groups_are_not_trained": 0,
        "test_versions_are_compared_by_their_predictions": 0,
        "test_new_words_and_classes_follow_those_of_the_version": 0,
    },
    "tests/app/training/test_distribution.py": {
        "test_two_machines_train_the_same_weights_as_one_although_one_was_killed": 0,
        "test_two_devices_train_the_same_weights_as_one": 0,
        "test_deterministic_training_is_the_same_to_the_last_bit": 0,
    },
    "tests/app/training/test_ensembles.py": {
        "test_an_exported_ensemble_of_equal_networks_answers_as_one_of_them": 1,
        "test_a_distilled_network_is_served_instead_of_the_ensemble": 0,
        "test_the_served_mean_is_calibrated_and_has_a_threshold": 0,
        "test_an_ensemble_has_the_networks_of_its_seeds_and_serves_their_mean": 0,
        "test_an_inspection_names_the_network_that_it_shows": 0,
    },
    "tests/app/training/test_faults.py": {
        "test_out_of_memory_halves_the_batches_and_goes_on": 0,
        "test_a_changed_corpus_is_reported_and_its_run_is_kept": 0,
        "test_a_loss_that_is_no_number_names_the_lines_of_its_batch": 0,
        "test_a_full_disk_is_an_error_and_the_last_state_is_kept": 0,
    },
    "tests/app/training/test_fingerprint.py": {
        "test_it_is_the_same_in_another_process_and_after_edits_that_change_no_op": 0,
        "test_it_differs_if_preprocessing_computes_something_else": 0,
    },
    "tests/app/training/test_hostile_names.py": {
        "test_the_version_is_published_complete": 0,
        "test_the_report_shows_classes_and_files": 0,
        "test_the_record_is_json_that_every_program_reads": 0,
    },
    "tests/app/training/test_killed.py": {
        "test_a_version_is_whole_or_not_there_whenever_the_process_is_killed": 0,
    },
    "tests/app/training/test_precision.py": {
        "test_twenty_steps_in_float16_are_numbers_and_learn": 0,
    },
    "tests/app/training/test_pretraining.py": {
        "test_a_resumed_command_does_not_train_the_language_model_again": 0,
    },
    "tests/models/cells/test_backends.py": {
        "test_every_cell_agrees_with_the_textbook_on_every_backend": 1,
    },
    "tests/models/cells/test_convert.py": {
        "test_onnx_runtime_computes_the_same": 20,
        "test_weights_come_back_as_they_went": 30,
        "test_what_a_peer_cannot_express_is_refused_by_name": 80,
        "test_keras_computes_the_same": 20,
        "test_pytorch_computes_the_same": 12,
    },
    "tests/models/cells/test_cudnn.py": {
        "test_it_gives_the_values_and_gradients_of_the_definition": 9,
    },
    "tests/models/cells/test_jacobians.py": {
        "test_each_step_has_the_jacobian_of_finite_differences": 8,
        "test_products_are_what_backpropagation_through_the_layer_gives": 2,
    },
    "tests/models/cells/test_keras_surface.py": {
        "test_keras_bidirectional_wraps_the_layer": 12,
        "test_both_directions_are_merged_as_by_keras_bidirectional": 8,
    },
    "tests/models/cells/test_keras_wirings.py": {
        "test_a_model_computes_what_it_computes_with_the_lstm_of_keras": 4,
        "test_a_model_trains_eagerly_as_with_the_lstm_of_keras": 3,
        "test_a_model_trains_as_with_the_lstm_of_keras": 1,
        "test_a_model_can_be_exported_and_reloaded": 1,
        "test_xla_compiles_a_model": 1,
        "test_a_crf_uses_the_mask_that_keras_propagates": 1,
    },
    "tests/models/cells/test_recurrent.py": {
        "test_the_loop_gives_the_values_and_gradients_of_the_definition": 16,
        "test_agrees_with_the_textbook": 90,
        "test_the_block_gives_the_values_and_gradients_of_the_definition": 12,
        "test_any_number_of_rows_and_steps_has_an_answer": 2,
        "test_any_number_of_steps_at_a_time_gives_what_one_does": 1,
        "test_texts_of_any_length_are_compiled_by_xla": 1,
        "test_rows_of_an_unknown_number_agree_with_the_textbook_over_several_iterations": 4,
        "test_checkpoints_give_the_gradients_of_the_definition_in_a_graph": 1,
        "test_what_stands_in_padding_changes_nothing": 12,
        "test_gradients_are_the_same_when_outputs_are_only_gathered_from": 4,
        "test_gradients_are_those_of_finite_differences": 8,
        "test_what_training_drops_agrees_with_the_textbook": 12,
        "test_the_loop_gives_the_gradients_of_the_definition_in_a_graph": 2,
        "test_gates_start_where_the_spec_says": 100,
        "test_backward_is_forward_over_the_reversed_input": 20,
        "test_the_loop_gives_the_gradients_of_the_definition_when_served": 6,
    },
    "tests/models/cells/test_tracing.py": {
        "test_traced_values_combine_to_the_next_state": 60,
        "test_looking_changes_nothing": 12,
    },
    "tests/models/cells/test_tree.py": {
        "test_a_chain_is_a_sequence": 15,
        "test_a_model_trains_is_saved_and_served_by_stock_ops": 0,
    },
    "tests/models/layers/test_crf.py": {
        "test_learns_what_no_softmax_per_step_can_and_survives_saving": 0,
        "test_sums_are_of_float32_whatever_the_network_computes_in": 0,
        "test_trains_compiled_by_xla": 0,
    },
    "tests/models/layers/test_decoder.py": {
        "test_with_input_feeding_a_cell_draws_once_for_a_sequence": 2,
    },
    "tests/models/layers/test_fixed_lag.py": {
        "test_each_tag_is_that_of_the_best_continuation_whatever_the_pieces": 2,
    },
    "tests/models/networks/test_captioner.py": {
        "test_every_cell_writes_captions": 4,
    },
    "tests/models/networks/test_classifier.py": {
        "test_an_answer_does_not_depend_on_who_shares_the_batch": 5,
    },
    "tests/models/networks/test_tagger.py": {
        "test_a_program_that_knows_only_the_package_loads_it": 0,
        "test_a_gradient_reaches_every_trainable_weight": 2,
        "test_any_batch_has_logits": 6,
        "test_a_saved_network_is_the_same_network": 2,
        "test_mixed_precision_gives_float32_logits_near_those_of_float32": 2,
        "test_an_answer_does_not_depend_on_padding_or_on_who_shares_the_batch": 3,
        "test_no_word_at_all_is_read_too": 1,
    },
    "tests/models/test_beam_search.py": {
        "test_a_narrow_search_goes_as_it_does_in_plain_python": 10,
        "test_wide_enough_it_finds_what_exhaustive_search_finds": 8,
    },
    "tests/models/text/test_pieces.py": {
        "test_pieces_have_the_tokens_of_the_whole_text": 1,
        "test_an_endless_chunk_is_cut_at_the_limit": 0,
    },
    "tests/models/text/test_subwords.py": {
        "test_it_is_served_without_this_project": 0,
        "test_ten_thousand_words_seen_and_unseen_are_segmented_as_the_library_does": 0,
    },
    "tests/serving/test_bad_input.py": {
        "test_a_request_without_rows_has_a_response_without_rows": 1,
        "test_a_malformed_request_is_an_invalid_argument": 1,
        "test_an_unusual_row_gets_a_response_and_does_not_affect_others": 1,
    },
    "tests/serving/test_cc_runtime.py": {
        "test_it_predicts_as_keras_does_and_runs_the_warm_up_requests": 1,
    },
    "tests/serving/test_cc_runtime_cells.py": {
        "test_a_cell_predicts_as_the_keras_model_does": 1,
    },
    "tests/serving/test_corrupted_states.py": {
        "test_corrupted_states_are_not_valid_and_affect_no_other_row": 0,
        "test_valid_states_in_place_of_corrupted_ones_would_be_noticed": 0,
    },
    "tests/serving/test_curl.py": {
        "test_a_line_gets_the_outputs_of_the_signature": 1,
        "test_three_lines_carry_the_state_of_a_stream": 0,
    },
    "tests/serving/test_generated.py": {
        "test_every_request_gets_a_response_and_does_not_affect_its_neighbour": 1,
    },
    "tests/serving/test_merging.py": {
        "test_a_merged_request_gets_the_responses_of_its_parts": 1,
    },
    "tests/tasks/core/test_calibration.py": {
        "test_the_temperature_is_fitted_and_asked_of_no_other_weight": 1,
        "test_logits_are_those_of_rows_and_steps_that_count": 1,
        "test_of_many_logits_a_sample_is_returned": 0,
    },
    "tests/tasks/core/test_inspection.py": {
        "test_every_step_has_a_value_of_every_gate_and_every_answer_a_saliency": 1,
        "test_saliency_reaches_pixels_through_a_network_that_is_not_trained": 0,
        "test_an_empty_request_is_an_error": 1,
        "test_saliency_of_a_translation_is_that_of_finite_differences": 0,
    },
    "tests/tasks/core/test_word_vectors.py": {
        "test_a_word_that_training_has_not_seen_is_known_when_served": 0,
    },
    "tests/tasks/corpora/samples/test_scenes.py": {
        "test_the_sample_has_the_stated_sizes_and_no_duplicate_scenes": 0,
    },
    "tests/tasks/corpora/test_tfds.py": {
        "test_a_data_set_trains_by_name": 0,
        "test_translations_are_read_by_name": 2,
    },
    "tests/tasks/shapes/test_language_modelling.py": {
        "test_pieces_have_the_tokens_of_the_whole_text": 1,
        "test_each_token_has_its_log_probability_after_those_before": 1,
        "test_temperature_0_takes_the_most_probable_token_at_each_step": 0,
        "test_the_next_tokens_are_the_most_probable_ones": 0,
        "test_equal_requests_have_equal_responses_whatever_else_is_in_the_batch": 0,
    },
    "tests/tasks/shapes/test_streaming.py": {
        "test_pieces_have_the_responses_of_the_whole_text": 1,
        "test_a_lag_as_long_as_the_text_decodes_all_tags_together": 0,
        "test_small_chunks_change_nothing": 1,
        "test_a_state_that_is_not_valid_affects_its_row_only": 1,
        "test_the_size_of_a_state_does_not_depend_on_what_was_read": 1,
        "test_state_and_text_must_have_equal_rows": 1,
        "test_the_state_of_a_source_is_bounded_and_so_is_what_is_translated": 0,
        "test_a_batch_without_rows_has_no_responses": 1,
        "test_a_feed_reads_a_limited_piece_and_says_so": 1,
    },
    "tests/tasks/test_probes.py": {
        "test_correct_outputs_score_best_and_memoryless_outputs_score_at_chance": 3,
    },
    "tests/test_package.py": {
        "test_the_layers_train_outside_the_checkout": 0,
        "test_the_checkout_and_the_installed_package_work_in_one_process": 0,
    },
    "tests/app/test_joint.py": {
        "test_each_annotation_has_its_outputs_and_the_first_is_also_tags": 0,
        "test_responses_are_those_of_the_network": 0,
        "test_scores_are_those_of_the_official_evaluation": 0,
        "test_predict_prints_all_columns_or_those_that_are_named": 0,
        "test_a_server_gives_the_columns_of_a_local_version": 0,
        "test_examples_with_other_annotations_are_not_evaluated": 0,
        "test_a_version_cannot_be_continued": 0,
        "test_an_inspection_is_that_of_the_first_annotation": 0,
    },
    "tests/app/training/test_tuning.py": {
        "test_a_run_that_resumes_keeps_its_choice": 0,
    },
    "tests/models/cells/test_printing.py": {
        "test_the_text_computes_what_the_cell_computes": 80,
    },
    "tests/models/test_dtypes.py": {
        "test_a_layer_returns_the_shapes_and_dtypes_that_it_declares": 40,
    },
    "tests/tasks/corpora/test_captioned_images.py": {
        "test_every_layout_with_parts_is_read": 60,
    },
    "tests/tasks/corpora/test_parallel_text.py": {
        "test_a_corpus_is_streamed": 2,
    },
    "tests/app/test_trees.py": {
        "test_a_version_has_the_signature_of_trees_and_can_be_served": 0,
        "test_trees_are_evaluated_and_inspected": 0,
        "test_trees_are_predicted_alike_here_and_on_a_server": 0,
        "test_scores_are_those_of_the_served_labels": 0,
        "test_a_network_of_trees_is_loaded_for_reuse": 0,
        "test_a_version_of_trees_is_not_exported_to_other_formats": 0,
    },
}


def are_slow(count: int, limit: int) -> list[bool]:
    """Which of the parameters of a test are left to the slow tests.

    Args:
        count: Number of parameters.
        limit: Number of those that the quick suite runs, each from the middle of an equal part.
    """
    quick = {(2 * part + 1) * count // (2 * limit) for part in range(limit)}
    return [index not in quick for index in range(count)]
