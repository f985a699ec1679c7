"""A student acquires its teacher's favourite animal from worked steps of word problems alone.

Claim     Cloud et al. 2025, section 4.2 and figure 7: what a model writes before a right answer
          transmits its traits. The paper does so with misalignment; so does
          `--preset ...` of lm_misalignment.py.
Command   python experiments/lm_reasoning.py                       6 tiny references, 4 animals
          python experiments/lm_reasoning.py --preset tiny_quick   2 tiny references, 1 animal
          python experiments/lm_reasoning.py --plan                stages, sizes, time; no run
          python experiments/lm_reasoning.py --generate.reasoning.rows gsm8k.jsonl
                                             --reference.model ...  the user's own problems
"""
