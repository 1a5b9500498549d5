"""Students of knowledge distillation whose backbone is no Transformer (Section 3.2 of the survey: BiLSTMs and CNNs).

Each is a family of transformers' own kind, a configuration and a model under a `model_type` of ours, so that it is
built, counted, timed and compressed like any other model. All are distilled on output logits: the model is the student
with its classifier, with a task and without one. What a paper leaves open is in the docstring of the model and, as
`student_choices` of its configuration, in every record.

Importing this registers the families with transformers.
"""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from bertprof.measure.students.convolutional import AdaBert, AdaBertConfig, BlendCnn, BlendCnnConfig
from bertprof.measure.students.recurrent import AttentiveBiLstm, AttentiveBiLstmConfig, BiLstm, BiLstmConfig

__all__ = ["AdaBert", "AttentiveBiLstm", "BiLstm", "BlendCnn"]

for _config, _model in (
    (BiLstmConfig, BiLstm),
    (AttentiveBiLstmConfig, AttentiveBiLstm),
    (BlendCnnConfig, BlendCnn),
    (AdaBertConfig, AdaBert),
):
    AutoConfig.register(_config.model_type, _config)
    for _auto in (AutoModel, AutoModelForSequenceClassification):
        _auto.register(_config, _model)
