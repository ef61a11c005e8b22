"""What hostile command lines and YAML files hold; and FRIENDLY, a file of another folder that is none."""

from __future__ import annotations

TARGETS = (
    "os.system",
    "subprocess.Popen",
    "builtins.exec",
    "pathlib.Path.touch",
    "importlib.import_module",
    "evil.Evil",
)
TASK_NODES = (
    "+_target_",
    "+model._target_",
    "+task._target_",
    "+lora._target_",
    "+optim._target_",
    "+trainer._target_",
    "+tracking._target_",
    "+method._target_",
    "+halving._target_",
    "+evil._target_",
    "+evil.deep.er._target_",
)
HYDRA_NODES = (
    "hydra.launcher._target_",
    "+hydra.launcher.x._target_",
    "+hydra.launcher.x.y._target_",
    "hydra.sweeper._target_",
    "+hydra.sweeper.x._target_",
    "+hydra.sweeper.sampler._target_",
    "+hydra.callbacks.x._target_",
    "+hydra.callbacks.x.y._target_",
    "+hydra.job._target_",
    "+hydra.x._target_",
    "+hydra.job_logging._target_",
    "+hydra.help.x._target_",
    "+hydra.runtime.x._target_",
)
# What else runs code, reads secrets or leads elsewhere, with {c} for the canary's path and {f} for the hostile folder.
OTHERS = (
    "model.projections={{_target_:os.system,command:'touch {c}'}}",
    "lora.ranks={{_target_:os.system}}",
    "+hydra.callbacks.x='${{oc.create:{{_target_:os.system,command:touch}}}}'",
    "+hydra.launcher.x='${{oc.create:{{_target_:os.system,command:touch}}}}'",
    "+evil='${{oc.create:{{_target_:os.system,command:touch}}}}'",
    "+hydra.sweeper.x='${{oc.decode:\"{{_tar${{oc.env:NOTHING,''}}get_:os.system}}\"}}'",
    "+hydra.job_logging.handlers.x={{class:subprocess.Popen,args:'touch {c}'}}",
    "+hydra.job_logging.handlers.x={{class:logging.FileHandler,filename:'{c}'}}",
    "+hydra.job_logging.handlers.x={{'()':os.system,command:'touch {c}'}}",
    "+hydra.job_logging.handlers.x={{class:logging.StreamHandler,stream:'ext://evil'}}",
    "+hydra.job_logging.formatters.x={{'()':os.system}}",
    "+hydra.job_logging.formatters.x={{class:evil.Evil}}",
    "+hydra.job_logging.filters.x={{'()':os.system}}",
    "+hydra.hydra_logging.handlers.x={{class:subprocess.Popen,args:'touch {c}'}}",
    "+hydra.hydra_logging.handlers.x={{'()':os.system,command:'touch {c}'}}",
    "+hydra.hydra_logging.formatters.x={{'()':os.system}}",
    "+hydra.hydra_logging.handlers.x={{class:logging.FileHandler,filename:'{c}'}}",
    "+hydra.job_logging.handlers.x={{class:logging.FileHandler,filename:'${{hydra.runtime.cwd}}/../../x'}}",
    "+hydra.hydra_logging.handlers.x={{class:logging.FileHandler,"
    "filename:'${{hydra.runtime.output_dir}}/${{hydra.job.name}}.log'}}",
    "+hydra.job_logging.loggers.x={{filters:[x]}}",
    "hydra.job_logging='${{hydra.help}}'",
    "hydra.hydra_logging='${{hydra.help}}'",
    "hydra.runtime.output_dir='{f}'",
    "hydra.job.name='../../x'",
    "hydra.job.name='${{oc.decode:\"{f}/x\"}}'",
    "hydra.sweep.subdir='${{oc.decode:../../../x}}'",
    "hydra.output_subdir='${{hydra.run.dir}}'",
    "hydra.callbacks='${{hydra.help}}'",
    "hydra.job.env_set='${{hydra.launcher}}'",
    "hydra.job='${{hydra.help}}'",
    "+hydra.sweeper.custom_search_space=evil.Evil",
    "+hydra.sweeper.sampler={{_target_:optuna.samplers._tpe.os.system}}",
    "slurm.extra={{wrap:'touch {c}'}}",
    "slurm.extra={{wra:'touch {c}'}}",
    "slurm.extra={{chdir:'{f}'}}",
    "+hydra.job.env_set={{PATH:'{f}'}}",
    "+hydra.job.env_set={{LD_PRELOAD:'{f}/evil.so'}}",
    "+hydra.job.env_copy=[HOME]",
    "hydra.output_subdir=../../x",
    "hydra.output_subdir='{f}'",
    "hydra.sweep.subdir=../../../x",
    "hydra.searchpath=[pkg://evil]",
    "hydra.searchpath=[structured://evil]",
    "hydra.searchpath=[http://127.0.0.1:9/x]",
    "task='../../../../../../{f}/task'",
    "+task='{f}/task'",
    "model='../minilm'",
    "hydra/launcher='../../evil'",
    "hydra/sweeper='{f}/evil'",
    "hydra/callbacks=evil",
    "study=../../x",
    "study='{f}/x'",
    "study='a\\0b'",
    "study='..'",
    "study='.'",
    "study='a/b'",
    "study='" + "x" * 300 + "'",
    "study='=cmd'",
    "study='<script>'",
    "study='a b'",
    "study='a\\nb'",
    "task.path='https://me:pa55word@example.org/x.csv'",
    "model.path='https://me:pa55word@example.org/x'",
    "tracking.entity='https://me:pa55word@example.org'",
    "output_dir='${{oc.env:WANDB_API_KEY}}'",
    "study='${{oc.env:HF_TOKEN}}'",
    "tracking.project='${{oc.env:AWS_SECRET_ACCESS_KEY,x}}'",
    "task.metric='{f}'",
    "task.metric=evil.py",
    "device='cuda:0; touch {c}'",
    "device='cuda:٣'",
    "lora.layers='\u0661-\u0663'",
    "lora.layers='" + "9" * 5000 + "-1'",
    "--experimental-rerun={f}/evil.pickle",
    "--config-name=../evil",
    "--config-name={f}/evil",
    "--config-dir={f}/nowhere",
)
# What Hydra's logging would call, where the guard must not overlook it.
_LOGGING = """# @package _global_
hydra:
  launcher:
    x:
      version: 1
      root: {{level: INFO, handlers: [x]}}
      handlers: {{x: {{"()": subprocess.Popen, args: [touch, "{c}"]}}}}
"""
_AXES = "# @package _global_\nhydra: {{mode: MULTIRUN, sweeper: {{params: {{"
# YAML files of another folder, chosen with +evil=x.
FILES = {
    "tag": "x: !!python/object/apply:os.system ['touch {c}']\n",
    "new tag": "x: !!python/object/new:os.system ['touch {c}']\n",
    "name tag": "x: !!python/name:os.system\n",
    "module tag": "x: !!python/module:evil\n",
    "callback": (
        "# @package _global_\nhydra:\n  callbacks:\n    x:\n      _target_: os.system\n      command: touch {c}\n"
    ),
    "launcher": "# @package _global_\nhydra:\n  launcher:\n    _target_: evil.Evil\n",
    "nested in launcher": "# @package hydra.launcher\nx:\n  _target_: subprocess.Popen\n  args: touch {c}\n",
    "sweeper": "# @package hydra.sweeper\n_target_: evil.Evil\n",
    "axes with a target": (
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      +x._target_: os.system\n"
    ),
    "logging": "# @package hydra.job_logging\nhandlers:\n  x:\n    (): os.system\n    command: touch {c}\n",
    "logging class": (
        "# @package hydra.hydra_logging\nhandlers:\n  x:\n    class: subprocess.Popen\n    args: touch {c}\n"
    ),
    "environment": "# @package _global_\nhydra:\n  job:\n    env_set:\n      PATH: '{f}'\n",
    "defaults": "defaults:\n  - ../../../evil\n",
    "task": "# @package _global_\ntask:\n  _target_: os.system\n",
    "list": "# @package _global_\nmodel:\n  projections:\n    - _target_: os.system\n",
    "secret": "# @package _global_\nstudy: ${{oc.env:WANDB_API_KEY}}\n",
    "setup": (
        "# @package _global_\ndefaults:\n  - override /hydra/launcher: submitit_local\nhydra:\n"
        "  launcher:\n    x: 'a\n\n      touch {c}'\n"
    ),
    "no mapping": "- 1\n- 2\n",
    "logging elsewhere": _LOGGING + "  job_logging: ${{hydra.launcher.x}}\n",
    "own logging elsewhere": _LOGGING + "  hydra_logging: ${{hydra.launcher.x}}\n",
    "logging in options of sbatch": (
        "# @package _global_\nslurm:\n  extra:\n    version: 1\n    root: {{level: INFO, handlers: [x]}}\n"
        "    handlers: {{x: {{'()': subprocess.Popen, args: touch {c}, shell: true}}}}\n"
        "hydra:\n  job_logging: ${{slurm.extra}}\n"
    ),
    "logging handlers elsewhere": (
        _LOGGING + "  job_logging: {{root: {{handlers: [x]}}, handlers: '${{hydra.launcher.x.handlers}}'}}\n"
    ),
    "logging handler elsewhere": (
        _LOGGING + "  job_logging: {{root: {{handlers: [x]}}, handlers: {{x: '${{hydra.launcher.x.handlers.x}}'}}}}\n"
    ),
    "logging filters elsewhere": _LOGGING
    + "  job_logging: {{root: {{}}, filters: '${{hydra.launcher.x.handlers}}'}}\n",
    "logging filters decoded": (
        "# @package _global_\nhydra:\n  job_logging:\n    root: {{}}\n"
        '    filters: "${{oc.decode:\'{{x: {{\\"()\\": os.system, command: touch {c}}}}}\'}}"\n'
    ),
    "logging class elsewhere": (
        "# @package _global_\nhydra:\n  help: {{app_name: subprocess.Popen}}\n  job_logging:\n"
        "    root: {{handlers: [x]}}\n    handlers: {{x: {{class: '${{hydra.help.app_name}}', args: touch {c}}}}}\n"
    ),
    "log file elsewhere": (
        "# @package _global_\nhydra:\n  help: {{app_name: '{c}'}}\n  job_logging:\n"
        "    formatters: {{x: {{format: 'touch x #%(message)s'}}}}\n"
        "    handlers: {{x: {{class: logging.FileHandler, formatter: x, filename: '${{hydra.help.app_name}}'}}}}\n"
        "    root: {{level: DEBUG, handlers: [x]}}\n"
    ),
    "log file of another name": (
        "# @package _global_\ndefaults:\n  - override /hydra/job_logging: default\n"
        "hydra: {{job: {{name: ../../../canary}}}}\n"
    ),
    "log folder": (
        "# @package _global_\ndefaults:\n  - override /hydra/job_logging: default\n"
        "hydra: {{runtime: {{output_dir: '{f}'}}}}\n"
    ),
    "launcher elsewhere": (
        "# @package _global_\nhydra:\n  sweeper: {{x: {{_target_: evil.Evil}}}}\n  launcher: ${{hydra.sweeper.x}}\n"
    ),
    "launcher built": (
        "# @package _global_\nhydra:\n  help: {{app_name: evil.Evil}}\n"
        "  launcher: {{_target_: '${{hydra.help.app_name}}'}}\n"
    ),
    "launcher of a resolver": (
        "# @package _global_\nhydra:\n  help: {{app_name: evil.Evil}}\n"
        "  launcher: {{_target_: '${{hydra:help.app_name}}'}}\n"
    ),
    "callbacks elsewhere": (
        "# @package _global_\nhydra:\n  launcher: {{x: {{y: {{z: 1}}}}}}\n  callbacks: ${{hydra.launcher.x}}\n"
    ),
    "environment elsewhere": (
        "# @package _global_\nhydra:\n  launcher: {{x: {{PATH: '{f}'}}}}\n  job: {{env_set: '${{hydra.launcher.x}}'}}\n"
    ),
    "job elsewhere": (
        "# @package _global_\nhydra:\n  launcher: {{x: {{env_set: {{}}, env_copy: []}}}}\n"
        "  job: ${{hydra.launcher.x}}\n"
    ),
    "all of hydra elsewhere": "# @package _global_\nhydra: ${{slurm}}\n",
    "search space": (
        "# @package _global_\ndefaults:\n  - override /hydra/sweeper: optuna\n"
        "hydra: {{mode: MULTIRUN, sweeper: {{custom_search_space: evil.Evil}}}}\n"
    ),
    "search storage": "# @package hydra.sweeper\nstorage: sqlite:///{c}\n",
    "commands for a task": "# @package slurm\nsetup: ['touch {c}']\n",
    "commands for a task elsewhere": "# @package _global_\nslurm: ${{tracking}}\n",
    "options of sbatch": "# @package _global_\nslurm: {{extra: {{wrap: touch {c}}}}}\n",
    "commands for a launcher": (
        "# @package _global_\ndefaults:\n  - override /hydra/launcher: submitit_local\n"
        "hydra: {{launcher: {{setup: ['touch {c}'], python: touch}}}}\n"
    ),
    "commands as an axis": _AXES + "slurm.setup: \"['touch {c}']\"}}}}}}\n",
    "commands as an added axis": _AXES + "++slurm.extra.wrap: touch}}}}}}\n",
    "group as an axis": _AXES + "slurm: '{{setup: [touch]}}'}}}}}}\n",
    "folder as an axis": _AXES + "hydra.run.dir: '{f}'}}}}}}\n",
    "run folder": "# @package _global_\nhydra: {{run: {{dir: '{f}'}}}}\n",
    "run folder above": "# @package _global_\nhydra: {{run: {{dir: '${{output_dir}}/.hydra/../x'}}}}\n",
    "output folder itself": "# @package _global_\nhydra: {{run: {{dir: '${{output_dir}}'}}}}\n",
    "run folder elsewhere": (
        "# @package _global_\nhydra: {{run: {{dir: '${{hydra:help.app_name}}'}}, help: {{app_name: '{f}'}}}}\n"
    ),
    "sweep folder": "# @package _global_\nhydra: {{sweep: {{dir: '{f}'}}}}\n",
    "sweep subfolder": (
        "# @package _global_\nhydra:\n  help: {{app_name: ../../../x}}\n"
        "  sweep: {{subdir: '${{hydra.help.app_name}}/${{hydra.job.num}}'}}\n"
    ),
    "output subfolder": (
        "# @package _global_\nhydra: {{help: {{app_name: '{f}'}}, output_subdir: '${{hydra.help.app_name}}'}}\n"
    ),
    "folder of a launcher": (
        "# @package _global_\ndefaults:\n  - override /hydra/launcher: submitit_local\n"
        "hydra: {{launcher: {{submitit_folder: '{f}'}}}}\n"
    ),
    "overrides": "# @package _global_\nhydra: {{overrides: {{hydra: [hydra.run.dir=x]}}}}\n",
    "binary": "\x00\x01\x02",
    "endless": "a: &a [x]\nb: &b [*a, *a, *a]\nc: [*b, *b\n",
}


FRIENDLY = """# @package _global_
defaults:
  - override /hydra/job_logging: default
  - override /slurm: gpu
slurm: {partition: short, setup: [], extra: null}
hydra:
  mode: MULTIRUN
  run: {dir: "${output_dir}/.hydra/mine"}
  sweeper: {params: {lora.rank: "1,2", slurm: "gpu"}}
"""
